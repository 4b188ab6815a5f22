"""Degenerate input: outputs and gradients are finite."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.geometry.rigid import rotation_from_axis_angle
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.training.captured_step import backward
from partnerface_ns.warp.displacement_grid import sample_surface


def rays_at_the_head(side: int = 8) -> Rays:
    y, x = torch.meshgrid(torch.linspace(0.2, -0.2, side), torch.linspace(-0.2, 0.2, side), indexing="ij")
    origins = torch.stack([x.flatten(), y.flatten(), torch.full((side * side,), 0.8)], -1)
    directions = torch.tensor([[0.0, 0.0, -1.0]]).repeat(side * side, 1)
    return Rays(origins[None], directions[None])


def check_a_step(avatar, state: HeadState, hits: bool = True) -> None:
    """One training step of one frame, and the same frame in evaluation."""
    rays, timestep = rays_at_the_head(), torch.zeros(1, dtype=torch.long)
    rendered = avatar.train().render(rays, state, timestep)
    result = backward(avatar, rendered, torch.full((1, 64, 3), 0.5), torch.ones(1, 64, 1))
    assert result.finite
    for name, parameter in avatar.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    assert avatar.field.planes[0].grad.any()
    with torch.no_grad():
        shown = avatar.eval().render(rays, state)
    assert all(value.isfinite().all() for value in shown.channels().values())
    assert bool((shown.accumulation > 0.5).any()) == hits


def test_triangles_without_area(make_avatar, avatar_init):
    """Some of one vertex, some along an edge; FLAME's own mesh has none, but a user's may."""
    model = avatar_init.model
    flat = torch.stack([model.faces[:, 0], model.faces[:, 0], model.faces[:, 1]], 1)[::3]
    points = model.faces[::5, :1].expand(-1, 3)
    odd = replace(model, faces=torch.cat([model.faces, flat, points]))
    assert torch.allclose(vertex_normals(model.template, odd.faces), vertex_normals(model.template, model.faces))
    samples = sample_surface(model.template, odd.faces, 0.003)
    assert samples.barycentric.isfinite().all() and samples.area.isfinite().all() and (samples.area >= 0).all()
    check_a_step(make_avatar(replace(avatar_init, model=odd), schedule="soft"), avatar_init.states[:1])


@pytest.mark.parametrize("axis", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.6, 0.0, -0.8)])
@pytest.mark.parametrize("angle", [math.pi, -math.pi, 2 * math.pi, 1e-30])
def test_rotations_by_half_and_whole_turns(axis, angle):
    vector = (angle * torch.tensor(axis, dtype=torch.float64)).requires_grad_()
    rotation = rotation_from_axis_angle(vector)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64))
    axis_again = rotation @ torch.tensor(axis, dtype=torch.float64)
    torch.testing.assert_close(axis_again, torch.tensor(axis, dtype=torch.float64))
    torch.testing.assert_close(rotation.trace(), torch.tensor(1 + 2 * math.cos(angle), dtype=torch.float64))
    weights = torch.arange(9.0, dtype=torch.float64).view(3, 3)
    (gradient,) = torch.autograd.grad((rotation * weights).sum(), vector)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("axis", [0, 1])
def test_a_head_that_is_turned_by_pi(make_avatar, avatar_init, axis):
    state = HeadState.neutral(avatar_init.model.num_expr, (1,))
    state.rotation[0, axis] = math.pi
    if axis == 0:  # it turns about the chest's joint, 20 cm below the skull
        state.translation[0, 1] = 0.4
    check_a_step(make_avatar(schedule="soft"), state)


@pytest.mark.parametrize("jaw", [-0.3, 0.0, 0.6, math.pi / 2])
@pytest.mark.parametrize("sideways", [0.0, 0.3])
def test_a_jaw_at_its_limits_and_beyond(make_avatar, avatar_init, jaw, sideways):
    state = HeadState.neutral(avatar_init.model.num_expr, (1,))
    state.jaw[0] = torch.tensor([jaw, sideways, 0.0])
    check_a_step(make_avatar(schedule="soft"), state)


def test_an_expression_far_beyond_training(make_avatar, avatar_init):
    state = HeadState.neutral(avatar_init.model.num_expr, (1,))
    state.expression[:] = 30.0
    check_a_step(make_avatar(), state)


def test_training_states_that_do_not_vary(make_avatar, avatar_init):
    """A capture of a face that never moves, so driving codes have no variance."""
    still = HeadState.neutral(avatar_init.model.num_expr, (3,))
    check_a_step(make_avatar(replace(avatar_init, states=still), schedule="soft"), still[:1])


@pytest.mark.parametrize("behind", [True, False])
def test_rays_that_look_away_or_begin_behind_the_head(make_avatar, avatar_init, behind):
    avatar, rays = make_avatar(), rays_at_the_head()
    if behind:
        rays = replace(rays, origins=rays.origins * torch.tensor([1.0, 1.0, -1.0]))
    else:
        rays = replace(rays, directions=-rays.directions)
    rendered = avatar.train().render(rays, avatar_init.states[:1], torch.zeros(1, dtype=torch.long))
    assert torch.equal(rendered.rgb, torch.tensor(avatar_init.background).expand(1, 64, 3))
    result = backward(avatar, rendered, torch.rand(1, 64, 3), torch.zeros(1, 64, 1))
    assert result.finite
    assert all(p.grad is None or p.grad.isfinite().all() for p in avatar.parameters())
