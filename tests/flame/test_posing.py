"""Posing against smplx's skinning, and invariants of poses."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from smplx.lbs import lbs
from torch import Tensor
from torch.testing import assert_close

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.joints import JOINT_PARENTS
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rotation_from_axis_angle, transform_points


def double(value):
    """A head model or head state in float64."""
    parts = {f.name: getattr(value, f.name) for f in fields(value)}
    return replace(
        value, **{k: v.double() for k, v in parts.items() if isinstance(v, Tensor) and v.is_floating_point()}
    )


@pytest.fixture
def model(tiny_head) -> HeadModel:
    return double(tiny_head)


@pytest.fixture
def head(model) -> ShapedHead:
    return ShapedHead.of(model, torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))


def random_state(*batch: int, scale: float = 0.3) -> HeadState:
    neutral = double(HeadState.neutral(4, batch))
    return neutral.map(lambda value: scale * torch.randn_like(value))


def test_vertices_equal_smplx(head, batch):
    state, m = random_state(*batch), head.model
    posed = head.pose(state)
    identity = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    expression = state.expression.reshape(-1, 4)
    coefficients = torch.cat([identity.expand(len(expression), 3), expression], -1)
    expected, _ = lbs(
        coefficients,
        state.full_pose.reshape(-1, 15),
        m.template[None].expand(len(expression), -1, -1),
        torch.cat([m.identity_dirs, m.expression_dirs], -1),
        m.pose_dirs,
        m.joint_regressor,
        torch.tensor(JOINT_PARENTS),
        m.skinning_weights,
    )
    assert posed.verts.shape == (*batch, m.num_verts, 3)
    assert_close(posed.verts, expected.reshape(*batch, -1, 3) + state.translation[..., None, :])


def test_batched_states_pose_like_single_ones(head):
    states = random_state(3, 1, 2)
    together, alone = head.pose(states), head.pose(states[2][0])
    for field in fields(together):
        assert_close(getattr(together, field.name)[2, 0], getattr(alone, field.name))


def test_the_rest_pose_is_the_person(head, batch):
    posed = head.pose(double(HeadState.neutral(4, batch)))
    assert_close(posed.verts, head.verts_rest.expand_as(posed.verts), atol=1e-8, rtol=0)
    assert_close(posed.offsets, torch.zeros_like(posed.offsets), atol=1e-8, rtol=0)
    assert_close(posed.T_world_rest, torch.eye(4, dtype=torch.float64).expand(*batch, 5, 4, 4), atol=1e-7, rtol=0)


def test_identity_and_personal_offsets_add_up(model):
    identity, offset = torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64), 0.01 * torch.randn_like(model.template)
    head = ShapedHead.of(model, identity, offset)
    assert_close(head.verts_rest, model.template + 2 * model.identity_dirs[..., 1] + offset)


def test_joint_transforms_and_offsets_give_the_vertices(head, batch):
    posed = head.pose(random_state(*batch))
    assert posed.T_world_rest.shape == (*batch, 5, 4, 4)
    T = posed.skinning(head.model.skinning_weights)
    assert_close(transform_points(T, head.verts_rest + posed.offsets), posed.verts)


def test_global_motion_is_rigid_about_the_root_joint(head):
    state = random_state()
    vector, shift = (
        torch.tensor([0.2, -1.0, 0.4], dtype=torch.float64),
        torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64),
    )
    still = head.pose(replace(state, rotation=torch.zeros_like(vector), translation=torch.zeros_like(shift)))
    moved = head.pose(replace(state, rotation=vector, translation=shift))
    root = head.model.joint_regressor[0] @ (
        head.verts_rest + torch.einsum("vae,e->va", head.model.expression_dirs, state.expression)
    )
    expected = (still.verts - root) @ rotation_from_axis_angle(vector).T + root + shift
    assert_close(moved.verts, expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("name", "joints"), [("jaw", [2]), ("eyes", [3, 4]), ("neck", [1, 2, 3, 4]), ("rotation", [0, 1, 2, 3, 4])]
)
def test_a_joint_moves_its_own_vertices_only(model, name, joints):
    head = ShapedHead.of(
        replace(model, pose_dirs=torch.zeros_like(model.pose_dirs)), torch.zeros(3, dtype=torch.float64)
    )
    neutral = double(HeadState.neutral(4))
    bent = replace(neutral, **{name: torch.full_like(getattr(neutral, name), 0.3)})
    moved = (head.pose(bent).verts - head.pose(neutral).verts).norm(dim=-1) > 1e-6
    assert torch.equal(moved, model.skinning_weights[:, joints].sum(1) > 0)


def test_an_open_jaw_takes_the_chin_down(model):
    head = ShapedHead.of(
        replace(model, pose_dirs=torch.zeros_like(model.pose_dirs)), torch.zeros(3, dtype=torch.float64)
    )
    neutral = double(HeadState.neutral(4))
    opened = replace(neutral, jaw=torch.tensor([0.2, 0.0, 0.0], dtype=torch.float64))
    chin = (model.skinning_weights[:, 2] * model.template[:, 2]).argmax()
    assert head.pose(opened).verts[chin, 1] < head.pose(neutral).verts[chin, 1] - 0.005


def test_gradients_are_right_and_finite_at_rest(head):
    state = random_state(2)
    values = tuple(value.requires_grad_() for value in state.tensors().values())
    some = torch.arange(0, head.model.num_verts, 9)
    assert torch.autograd.gradcheck(lambda *v: head.pose(HeadState(*v)).verts[:, some], values)
    assert torch.autograd.gradcheck(lambda *v: head.pose(HeadState(*v)).T_world_rest, values)

    at_rest = tuple(torch.zeros_like(v).requires_grad_() for v in values)
    gradients = torch.autograd.grad(head.pose(HeadState(*at_rest)).verts.square().sum(), at_rest)
    assert all(torch.isfinite(g).all() and g.any() for g in gradients)


def test_the_shoulders_follow_a_known_torso(head, batch):
    state = random_state(*batch)
    # The torso turns about the root joint at rest, which an expression of this model moves.
    state = replace(state, expression=torch.zeros_like(state.expression))
    root_pose = torch.cat([state.rotation, state.translation], -1)
    assert_close(head.surface(state), head.pose(state).verts)
    assert_close(head.surface(replace(state, torso=root_pose)), head.pose(state).verts)
    moved = replace(state, torso=root_pose + torch.tensor([0, 0, 0, 0, 0.5, 0], dtype=torch.float64))
    difference = head.surface(moved) - head.pose(state).verts
    expected = 0.5 * head.model.skinning_weights[:, 0].expand(*batch, -1)
    assert_close(difference[..., 1], expected)
    assert_close(difference[..., [0, 2]], torch.zeros_like(difference[..., [0, 2]]))


def test_a_turned_torso_turns_the_shoulders_about_the_root(head):
    torso = torch.tensor([0, 0.4, 0, 0, 0, 0], dtype=torch.float64)
    neutral = replace(random_state(scale=0.0), torso=torso)
    turned = replace(random_state(scale=0.0), rotation=torso[:3])
    alone = head.model.skinning_weights[:, 0] > 0.999
    assert alone.any()
    assert_close(head.surface(neutral)[alone], head.pose(turned).verts[alone])
