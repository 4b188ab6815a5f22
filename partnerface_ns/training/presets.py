"""Sizes of an avatar and of its training steps for two kinds of machine; both are functions of the same defaults."""

from __future__ import annotations

from dataclasses import dataclass, field

from partnerface_ns.avatar.config import AvatarConfig
from partnerface_ns.training.rays import RaySamplerConfig


@dataclass
class Preset:
    """What is trained, and on how many rays a step."""

    avatar: AvatarConfig = field(default_factory=AvatarConfig)
    """Of the avatar."""
    sampler: RaySamplerConfig = field(default_factory=RaySamplerConfig)
    """Of each step's rays."""


def lite(**changes: object) -> Preset:
    """Two CPU cores or a small GPU: the components' own defaults.

    Args:
        **changes: settings of the avatar's configuration.
    """
    return Preset(AvatarConfig(**changes))  # type: ignore[arg-type]


def full(**changes: object) -> Preset:
    """Full quality on one GPU; arguments as for `lite`."""
    preset = lite(**changes)
    avatar, sampler = preset.avatar, preset.sampler
    sampler.rays_per_batch, sampler.frames_per_batch = 8192, 8
    avatar.canonical.resolutions = (128, 256, 512)
    avatar.canonical.num_channels, avatar.canonical.hidden = 16, 128
    avatar.parts.hidden, avatar.parts.num_layers = 128, 3
    avatar.sampling.num_samples, avatar.sampling.num_probes, avatar.sampling.num_proposals = 32, 64, 64
    return preset
