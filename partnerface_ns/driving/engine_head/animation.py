"""Motions as animations of the engine head: weights of blendshapes, and rotations of joints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from partnerface_ns.driving.engine_head.head import EngineHead
from partnerface_ns.driving.rotation_vectors import rotation_from_vector
from partnerface_ns.flame.joints import EYES, JOINT_NAMES
from partnerface_ns.flame.state import HeadState


@dataclass(frozen=True)
class Animation:
    """An animation with one entry per frame."""

    name: str
    times: Float[np.ndarray, "frames"]
    """Seconds from 0."""
    weights: Float[np.ndarray, "frames shapes"]
    """Weights of the blendshapes. Those that turn joints stay zero, because the joints themselves turn."""
    rotations: Float[np.ndarray, "frames joints 4"]
    """Rotation of each joint relative to its parent, quaternions (x, y, z, w)."""
    translation: Float[np.ndarray, "frames 3"]
    """Position of the root joint relative to the rest pose, metres."""


def animate(head: EngineHead, states: HeadState, fps: float, name: str) -> Animation:
    """The animation of head states.

    Expressions that no blendshape has are approximated by the nearest combination of blendshapes.

    Args:
        head: the engine head.
        states: batch axes (frames,), coefficients of its head model.
        fps: frames per second.
        name: the animation's name.
    """
    change = (states.expression - head.neutral.expression).numpy()
    weights = change @ np.linalg.pinv(head.expression_rows)
    moved = (states.translation - head.neutral.translation).numpy()
    times = np.arange(len(states)) / fps
    return Animation(name, times, weights, joint_rotations(states), moved)


def joint_rotations(states: HeadState) -> Float[np.ndarray, "*batch joints 4"]:
    """Rotations of all joints as quaternions (x, y, z, w), batch axes () or (frames,)."""
    vectors = states.full_pose.reshape(*states.batch_shape, len(JOINT_NAMES), 3)
    flat: Rotation = rotation_from_vector(vectors.reshape(-1, 3))
    return flat.as_quat().reshape(*states.batch_shape, len(JOINT_NAMES), 4)


def rest_rotations(neutral: HeadState) -> Float[np.ndarray, "joints 4"]:
    """Rotations of the joints in the neutral state, with an upright root."""
    rotations = joint_rotations(neutral)
    rotations[0] = (0, 0, 0, 1)
    assert len(rotations[EYES]) == 2
    return rotations
