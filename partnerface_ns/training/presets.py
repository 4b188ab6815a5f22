"""Presets of avatar and training steps for two kinds of machine, both derived from the same defaults."""

from __future__ import annotations

from dataclasses import dataclass, field

from partnerface_ns.avatar.config import AvatarConfig
from partnerface_ns.training.rays import RaySamplerConfig


@dataclass
class Preset:
    """Settings of an avatar and of the rays of its training steps."""

    avatar: AvatarConfig = field(default_factory=AvatarConfig)
    """Settings of the avatar."""
    sampler: RaySamplerConfig = field(default_factory=RaySamplerConfig)
    """Rays of each step."""


def lite(**changes: object) -> Preset:
    """For two CPU cores or a small GPU: the defaults.

    Args:
        **changes: fields of `AvatarConfig` and their values.
    """
    return Preset(AvatarConfig(**changes))  # type: ignore[arg-type]


def full(**changes: object) -> Preset:
    """For one GPU, in full quality; arguments as for `lite`."""
    preset = lite(**changes)
    avatar, sampler = preset.avatar, preset.sampler
    sampler.rays_per_batch, sampler.frames_per_batch = 8192, 8
    avatar.canonical.resolutions = (128, 256, 512)
    avatar.canonical.num_channels, avatar.canonical.hidden = 16, 128
    avatar.parts.hidden, avatar.parts.num_layers = 128, 3
    avatar.sampling.num_samples, avatar.sampling.num_probes, avatar.sampling.num_proposals = 32, 64, 64
    return preset
