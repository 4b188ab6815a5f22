"""The baked deformation against the exact one."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.avatar.avatar import SOFT, Avatar
from partnerface_ns.baked.volumes import BakedDeformation
from partnerface_ns.flame.state import HeadState
from partnerface_ns.warp.inverse_skinning import CanonicalPoints

LOWER, UPPER = torch.tensor([-0.05, -0.04, 0.05]), torch.tensor([0.05, 0.05, 0.12])


@pytest.fixture
def avatar(make_avatar) -> Avatar:
    avatar = make_avatar()
    avatar.deformation.networks.output.data.normal_(std=0.2)
    avatar.stage.fill_(SOFT)
    return avatar.eval()


def offsets(avatar: Avatar, points: torch.Tensor, state: HeadState) -> torch.Tensor:
    """Contracted coordinates."""
    canonical = CanonicalPoints(points, avatar.skinning.space.torso_share(points))
    moved = avatar.warp.deform(canonical, torch.zeros(len(points), dtype=torch.long), state)
    return avatar.field.contract(moved.points) - avatar.field.contract(points)


@torch.no_grad()
@pytest.mark.parametrize("timestep", [0, 1])
def test_finer_nodes_are_more_accurate(avatar, avatar_init, timestep):
    points = LOWER + torch.rand(500, 3) * (UPPER - LOWER)
    contracted, state = avatar.field.contract(points), avatar_init.states[timestep : timestep + 1]
    expected = offsets(avatar, points, state)
    errors = []
    for spacing in (0.02, 0.005):
        baked = BakedDeformation(avatar, LOWER, UPPER, spacing)
        found = baked.deform(baked.offsets(avatar.warp, state), contracted) - contracted
        errors.append((found - expected).abs().mean() / expected.abs().mean())
    assert errors[1] < 0.05 and errors[1] < 0.3 * errors[0]


@torch.no_grad()
def test_nodes_hold_the_deformation_itself(avatar, avatar_init):
    baked, state = BakedDeformation(avatar, LOWER, UPPER, 0.02), avatar_init.states[1:2]
    corners = torch.stack([LOWER, UPPER])
    contracted = avatar.field.contract(corners)
    found = baked.deform(baked.offsets(avatar.warp, state), contracted) - contracted
    assert_close(found, offsets(avatar, corners, state), atol=1e-5, rtol=0)
    beyond = contracted + torch.tensor([[-0.3, -0.3, -0.3], [0.3, 0.3, 0.3]])
    assert_close(baked.deform(baked.offsets(avatar.warp, state), beyond) - beyond, found, atol=1e-5, rtol=0)


def test_a_box_contains_its_inner_points(avatar):
    baked = BakedDeformation(avatar, LOWER, UPPER, 0.02)
    places = torch.stack([(LOWER + UPPER) / 2, LOWER + 1e-3, LOWER - 1e-3, torch.tensor([0.0, 0.0, 0.13])])
    assert baked.contains(avatar.field.contract(places)).tolist() == [True, True, False, False]
