"""Alignment of corresponding points by a similarity transform: rotation, translation and one scale.

Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991. The rotation
comes from scipy, which is not differentiable.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation


class Similarity(NamedTuple):
    """Maps x to scale * rotation @ x + translation."""

    scale: float
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]


def align_points(points: Float[np.ndarray, "points 3"], targets: Float[np.ndarray, "points 3"]) -> Similarity:
    """The similarity that brings points nearest to their targets, by least squares.

    Args:
        points: at least three that do not lie on one line.
        targets: one for each point.
    """
    a, b = points - points.mean(0), targets - targets.mean(0)
    rotation = align_vectors(a, b)
    scale = float(((a @ rotation.T) * b).sum() / np.square(a).sum())
    return Similarity(scale, rotation, targets.mean(0) - scale * rotation @ points.mean(0))


def align_vectors(
    vectors: Float[np.ndarray, "vectors 3"], targets: Float[np.ndarray, "vectors 3"]
) -> Float[np.ndarray, "3 3"]:
    """The rotation about the origin that brings vectors nearest to their targets, by least squares."""
    return Rotation.align_vectors(targets, vectors)[0].as_matrix()
