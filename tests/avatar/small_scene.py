"""Rays, renderings and training steps of the small avatar that the tests share."""

from __future__ import annotations

from dataclasses import replace

import torch

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.flame.state import HeadState
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.training.objective import training_loss

KINDS = ("parts", "global", "none")


def front_rays(num_frames: int = 1, side: int = 8, half: float = 0.2) -> Rays:
    """Parallel rays from the front over a square around the head, `side` times `side` for each frame."""
    y, x = torch.meshgrid(torch.linspace(half, -half, side), torch.linspace(-half, half, side), indexing="ij")
    origins = torch.stack([x.flatten(), y.flatten(), torch.full((side * side,), 0.8)], -1)
    directions = torch.tensor([[0.0, 0.0, -1.0]]).repeat(side * side, 1)
    return Rays(origins.expand(num_frames, -1, -1), directions.expand(num_frames, -1, -1))


def with_mouth(init: AvatarInit) -> AvatarInit:
    """A person whose head model has something inside its mouth: the eyeballs."""
    regions = init.model.regions
    return replace(init, model=replace(init.model, regions=regions | {"inside_mouth": regions["eyeballs"]}))


def picked(rays: Rays, index: torch.Tensor) -> Rays:
    return Rays(rays.origins[:, index], rays.directions[:, index])


def stirred(avatar: Avatar) -> Avatar:
    """Randomise the parameters, so that deformation and torso have an effect."""
    for parameter in avatar.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return avatar


@torch.no_grad()
def seen(avatar: Avatar, rays: Rays, states: HeadState, timesteps: torch.Tensor | None = None) -> dict:
    return avatar.eval().render(rays, states, timesteps).channels()


def train_step(avatar: Avatar, states: HeadState, mask: bool = True) -> dict[str, torch.Tensor]:
    """Loss terms of the two frames against a grey image, with gradients of their sum."""
    avatar.train().zero_grad()
    rendered = avatar.render(front_rays(2), states[:2], torch.arange(2))
    grey, foreground = torch.full_like(rendered.rgb, 0.5), torch.ones_like(rendered.accumulation)
    terms = training_loss(avatar, rendered, grey, foreground if mask else None)
    torch.stack(list(terms.values())).sum().backward()
    avatar.end_step()
    return terms


def learns(parameters) -> bool:
    return any(p.grad is not None and bool(p.grad.any()) for p in parameters)
