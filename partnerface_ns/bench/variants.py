"""The settings that are compared: the method, and what is left of it when a piece is taken away."""

from __future__ import annotations

from collections.abc import Callable

from partnerface_ns.avatar_config import AvatarConfig
from partnerface_ns.rendering.sampling import SamplingConfig
from partnerface_ns.warp.tracking_correction import TrackingCorrectionConfig

ABLATION: dict[str, Callable[[], AvatarConfig]] = {
    "two-stage": AvatarConfig,
    "hard": lambda: AvatarConfig(schedule="hard"),
    "soft": lambda: AvatarConfig(schedule="soft"),
    "global": lambda: AvatarConfig(deformation="global"),
    "none": lambda: AvatarConfig(deformation="none"),
    "two-stage, K=4": lambda: AvatarConfig(num_parts=4),
    "two-stage, K=16": lambda: AvatarConfig(num_parts=16),
}
"""What the parts bring."""
SAMPLING: dict[str, Callable[[], AvatarConfig]] = {
    "16 samples": lambda: AvatarConfig(sampling=SamplingConfig(num_samples=16)),
    "32 samples": lambda: AvatarConfig(sampling=SamplingConfig(num_samples=32)),
    "samples by memory alone": lambda: AvatarConfig(sampling=SamplingConfig(spread=1.0)),
    "16 samples by memory alone": lambda: AvatarConfig(sampling=SamplingConfig(num_samples=16, spread=1.0)),
}
"""What it brings to ask the field where samples should go."""
TRACKING: dict[str, Callable[[], AvatarConfig]] = {
    "as tracked": lambda: AvatarConfig(correction=TrackingCorrectionConfig(enabled=False)),
}
"""What it brings to correct tracking behind the face."""
VARIANTS = ABLATION | SAMPLING | TRACKING
"""Each variant's configuration; all else is the default, learning rates included."""
