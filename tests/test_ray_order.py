"""Rays of several frames in one call."""

from __future__ import annotations

import pytest
import torch

from partnerface_ns.avatar import Avatar
from partnerface_ns.avatar_config import AvatarConfig
from partnerface_ns.flame.head_model import load_head_model
from partnerface_ns.flame.state import HeadState
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.subject import Subject


@pytest.fixture
def avatar(head_file):
    model = load_head_model(head_file)
    states = HeadState.neutral(model.num_expr, (3,))
    states.rotation[:, 1] = torch.tensor([-0.4, 0.0, 0.4])
    states.jaw[:, 0] = torch.tensor([0.0, 0.1, 0.3])
    offset = torch.zeros_like(model.template)
    subject = Subject(model, torch.zeros(model.num_identity), offset, states, 3, (1.0, 1.0, 1.0))
    config = AvatarConfig(bfloat16=False, num_parts=4)
    config.canonical.resolutions, config.displacement.shape, config.space.resolution = (16, 16), (16, 16, 16), 32
    config.sampling.grid_resolution = 32
    return Avatar(config, subject), states


def rays_at_the_head(num: int) -> Rays:
    origins = torch.tensor([0.0, 0.0, 0.8]).expand(num, 3)
    targets = (torch.rand(num, 3) - 0.5) * 0.15
    return Rays(origins, torch.nn.functional.normalize(targets - origins, dim=-1), torch.randint(3, (num,)))


def test_rays_of_mixed_frames_see_what_each_frame_alone_shows(avatar):
    avatar, states = avatar
    avatar.eval()
    with torch.no_grad():
        for parameter in avatar.field.planes:
            parameter.normal_()
        rays = rays_at_the_head(60)
        mixed = avatar.render(rays, states)
        for i in range(3):
            mine = rays.frame == i
            alone = Rays(rays.origins[mine], rays.directions[mine], torch.zeros(int(mine.sum()), dtype=torch.long))
            for name, expected in avatar.render(alone, states[i : i + 1]).items():
                torch.testing.assert_close(mixed[name][mine], expected, atol=1e-4, rtol=1e-3, msg=name)
    assert mixed["accumulation"].max() > 0.5, "the head is seen"


@pytest.mark.parametrize("stage", [1, 2])
def test_the_assigner_is_trained_in_the_soft_stage_only(avatar, stage):
    avatar, states = avatar
    avatar.train()
    avatar.set_progress(0.0 if stage == 1 else 1.0)
    assert int(avatar.stage) == stage
    torch.nn.init.normal_(avatar.deformation.networks.output)
    rendered = avatar.render(rays_at_the_head(60), states, torch.arange(3))
    sum(avatar.loss(rendered, torch.zeros(60, 3), torch.ones(60, 1)).values()).backward()
    gradients = [p.grad for p in avatar.assigner.parameters()]
    trained = any(g is not None and bool(g.any()) for g in gradients)
    assert trained == (stage == 2)
    assert bool(avatar.deformation.networks.output.grad.any())
