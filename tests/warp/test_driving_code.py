"""The driving code: normalisation and visibility to parts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.warp.driving_code import DrivingCode, code_visibility


def states_of(num: int, num_expr: int) -> HeadState:
    make = lambda size, scale, mean: mean + scale * torch.randn(num, size)  # noqa: E731
    return HeadState(
        make(num_expr, 0.5, 0.2), make(3, 0.3, 0.0), make(3, 0.2, 0.1), make(3, 0.1, 0.2), make(6, 0.1, 0.0),
        make(3, 0.1, 0.5),
    )  # fmt: skip


def test_codes_are_standard_normal_over_training():
    states = states_of(400, 4)
    code = DrivingCode(states)(states)
    assert code.shape == (400, DrivingCode(states).size) == (400, 4 + 3 + 6 + 3)
    assert_close(code.mean(0), torch.zeros(16), atol=0.03, rtol=0)
    assert_close(code.std(0), torch.ones(16), atol=0.05, rtol=0)


def test_codes_saturate_and_global_motion_is_not_in_them():
    states = states_of(50, 4)
    code = DrivingCode(states)
    far = replace(states, jaw=states.jaw + 100, neck=states.neck - 100)
    assert code(far).abs().max() < 10
    assert (code(far)[:, 4:7] > 2).all() and (code(far)[:, -3:] < -2).all()
    moved = replace(states, rotation=states.rotation + 1, translation=states.translation - 1)
    assert torch.equal(code(moved), code(states))


def test_entries_that_never_varied_in_training_are_reduced():
    still = HeadState.neutral(4, (7,))
    code = DrivingCode(still)
    assert not code(still).any()
    nudged = replace(still, expression=still.expression + 0.01, jaw=still.jaw + 0.005)
    assert code(nudged).abs().max() < 1


def test_a_single_training_frame_is_enough():
    states = states_of(1, 4)
    assert not DrivingCode(states)(states).any()


def test_gradients_reach_the_states():
    states = states_of(20, 4)
    code = DrivingCode(states)
    jaw = states.jaw.clone().requires_grad_()
    code(replace(states, jaw=jaw)).square().sum().backward()
    assert jaw.grad.isfinite().all() and jaw.grad.any()


def test_every_entry_is_seen_by_the_part_that_it_moves_most(tiny_shaped, tiny_head):
    code = DrivingCode(states_of(20, tiny_head.num_expr))
    seeds = tiny_shaped.verts_rest[torch.tensor([0, 30, 50])]
    visibility = code_visibility(code, tiny_shaped, tiny_shaped.verts_rest, seeds)
    assert visibility.shape == (3, code.size)
    assert ((visibility >= 0) & (visibility <= 1)).all()
    assert_close(visibility.amax(0), torch.ones(code.size))


def test_brows_do_not_see_the_jaw_nor_the_mouth_the_lids():
    model = load_open_head()
    head = ShapedHead.of(model, torch.zeros(model.num_identity))
    verts, regions, names = head.verts_rest, model.regions, model.expression_names
    mouth = verts[regions["lips"] > 0.5].mean(0)
    left_eye = verts[(regions["eyelids"] > 0.5) & (verts[:, 0] > 0)].mean(0)
    forehead = left_eye + torch.tensor([-0.03, 0.03, 0.0])
    states = states_of(20, model.num_expr)
    sight = code_visibility(DrivingCode(states), head, verts, torch.stack([mouth, left_eye, forehead]))
    jaw_opens, blink = sight[:, model.num_expr], sight[:, names.index("eyeBlinkLeft")]
    assert jaw_opens[0] == 1 and jaw_opens[1:].max() < 0.1
    assert blink[1] == 1 and blink[0] < 0.1
    assert sight[2, names.index("browInnerUp")] == 1
    assert sight[0, names.index("mouthPucker")] == 1 and sight[2, names.index("mouthPucker")] < 0.1


@pytest.mark.parametrize("num_parts", [1, 40])
def test_parts_without_vertices_get_numbers_too(tiny_shaped, tiny_head, num_parts):
    """A seed that lies far from all skin owns no vertex."""
    seeds = torch.cat([tiny_shaped.verts_rest[:num_parts], torch.full((1, 3), 9.0)])
    visibility = code_visibility(
        DrivingCode(states_of(5, tiny_head.num_expr)), tiny_shaped, tiny_shaped.verts_rest, seeds
    )
    assert visibility.isfinite().all()
