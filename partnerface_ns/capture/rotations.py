"""Conversion of rotations to axis-angle vectors, radians."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation


def axis_angle_from_6d(rows: Float[np.ndarray, "*batch 6"]) -> Float[np.ndarray, "*batch 3"]:
    """Convert the first two rows of rotation matrices, orthonormalised by Gram-Schmidt; NaN if they are parallel."""
    first, second = rows[..., :3], rows[..., 3:]
    with np.errstate(invalid="ignore", divide="ignore"):
        x = first / np.linalg.norm(first, axis=-1, keepdims=True)
        across = second - (x * second).sum(-1, keepdims=True) * x
        y = across / np.linalg.norm(across, axis=-1, keepdims=True)
    return axis_angle_from_matrix(np.stack([x, y, np.cross(x, y)], -2))


def axis_angle_from_matrix(matrix: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Convert rotation matrices; NaN for matrices that contain NaN."""
    flat = matrix.reshape(-1, 3, 3)
    known = np.isfinite(flat).all((1, 2))
    vectors = np.full((len(flat), 3), np.nan)
    if known.any():
        vectors[known] = Rotation.from_matrix(flat[known]).as_rotvec()
    return vectors.reshape(*matrix.shape[:-2], 3)
