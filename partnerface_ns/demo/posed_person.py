"""The pose of the whole person in one frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class PosedPerson:
    """Pose and expression in one frame; world frame, metres."""

    skin: Float[np.ndarray, "skin 3"]
    """Vertices of the drawn head: those of the posed head model, except that the base of the neck follows the torso."""
    T_world_skull: Float[np.ndarray, "4 4"]
    T_world_eyes: Float[np.ndarray, "2 4 4"]
    """Left and right eyeball."""
    T_world_torso: Float[np.ndarray, "4 4"]
    T_skull_glasses: Float[np.ndarray, "4 4"]
    """Motion of the glasses relative to the skull, in the rest frame."""
    expression: Mapping[str, float]
    """Expression coefficients by name."""


def move(T: Float[np.ndarray, "4 4"], points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
    """Apply a rigid transform to points."""
    return points @ T[:3, :3].T + T[:3, 3]
