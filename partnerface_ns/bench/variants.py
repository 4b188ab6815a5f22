"""The settings that are compared: the method, and what is left of it when a piece is taken away."""

from __future__ import annotations

from collections.abc import Callable

from partnerface_ns.avatar import AvatarConfig

VARIANTS: dict[str, Callable[[], AvatarConfig]] = {
    "two-stage": AvatarConfig,
    "hard": lambda: AvatarConfig(schedule="hard"),
    "soft": lambda: AvatarConfig(schedule="soft"),
    "global": lambda: AvatarConfig(deformation="global"),
    "none": lambda: AvatarConfig(deformation="none"),
    "two-stage, K=4": lambda: AvatarConfig(num_parts=4),
    "two-stage, K=16": lambda: AvatarConfig(num_parts=16),
}
"""Each variant's configuration; all else is the default, learning rates included."""
