"""Refitting of head states to pixels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.rendering.rays import Rays
from partnerface_ns.training.refit import RefitConfig, Refitter


def rays_from_the_front(side: int) -> Rays:
    y, x = torch.meshgrid(torch.linspace(0.15, -0.15, side), torch.linspace(-0.15, 0.15, side), indexing="ij")
    origins = torch.stack([x.flatten(), y.flatten(), torch.full((side * side,), 0.8)], -1)
    return Rays(origins[None], torch.tensor([0.0, 0.0, -1.0]).expand(1, side * side, 3))


@pytest.fixture
def avatar(make_avatar):
    """An avatar with colours that differ from place to place."""
    avatar = make_avatar(deformation="none").eval()
    with torch.no_grad():
        for plane in avatar.field.planes:
            plane.add_(2 * torch.randn_like(plane))
        for parameter in avatar.field.color_network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return avatar


def test_a_wrong_pose_is_found_from_the_pixels_and_the_avatar_stays(avatar, avatar_init):
    true, rays = avatar_init.states[:1], rays_from_the_front(24)
    with torch.no_grad():
        truth = avatar.render(rays, true).rgb[0]
    tracked = replace(true, translation=true.translation + torch.tensor([[0.008, -0.006, 0.0]]))
    before = {name: value.clone() for name, value in avatar.state_dict().items()}
    region = torch.ones(len(truth), dtype=torch.bool)
    refitted = Refitter(avatar, avatar_init.states).refit(tracked, rays, truth, region)
    with torch.no_grad():
        errors = [(avatar.render(rays, state).rgb[0] - truth).square().mean() for state in (tracked, refitted)]
    assert errors[1] < 0.3 * errors[0]
    assert all(torch.equal(value, before[name]) for name, value in avatar.state_dict().items())


def test_a_right_pose_stays(avatar, avatar_init):
    true, rays = avatar_init.states[:1], rays_from_the_front(16)
    with torch.no_grad():
        truth = avatar.render(rays, true).rgb[0]
    refitted = Refitter(avatar, avatar_init.states).refit(true, rays, truth, torch.ones(len(truth), dtype=torch.bool))
    for name, value in true.tensors().items():
        assert_close(getattr(refitted, name), value, atol=1e-3, rtol=0)


def test_the_tracked_state_stays_without_pixels_or_iterations(avatar, avatar_init):
    true, rays = avatar_init.states[:1], rays_from_the_front(4)
    for region, config in ((torch.zeros(16).bool(), RefitConfig()), (torch.ones(16).bool(), RefitConfig(iterations=0))):
        refitted = Refitter(avatar, avatar_init.states, config).refit(true, rays, torch.rand(16, 3), region)
        assert torch.equal(refitted.translation, true.translation)
