"""Where everything of the person is at one time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class PosedPerson:
    """Positions and expression at one time, world frame, metres."""

    skin: Float[np.ndarray, "skin 3"]
    """The head model's vertices as drawn: like the posed head model, but the neck's base follows the torso."""
    T_world_skull: Float[np.ndarray, "4 4"]
    T_world_eyes: Float[np.ndarray, "2 4 4"]
    """Of the left and the right eyeball."""
    T_world_torso: Float[np.ndarray, "4 4"]
    T_skull_glasses: Float[np.ndarray, "4 4"]
    """The glasses' own motion on the skull, in the rest frame."""
    expression: Mapping[str, float]
    """Coefficients by name."""


def move(T: Float[np.ndarray, "4 4"], points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
    """Points after a rigid motion."""
    return points @ T[:3, :3].T + T[:3, 3]
