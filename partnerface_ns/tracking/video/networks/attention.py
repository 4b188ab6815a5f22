"""The step between the two parts of the face mesh network: sampling the features at lips and eyes.

The landmarks of the whole face define a box around each of these regions. The features are sampled in the box, the
second part finds landmarks there, and these are mapped back. The original model has the operations
Landmarks2TransformMatrix, TransformTensorBilinear and TransformLandmarks for this. Source: Grishchenko et al.,
"Attention mesh: high-fidelity face mesh prediction in real-time", 2020.

A map is a (2, 3) matrix from pixels of the sampled grid to pixels of the features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

GRID_SIDE = 16
"""Samples per side of the second part's input."""
_SCALE = 1.5
"""Side of the sampled box, relative to the box around the landmarks."""


@dataclass(frozen=True)
class FaceRegion:
    """A part of the face and its landmarks."""

    landmarks: tuple[int, ...]
    """In the order of the second part's output."""
    corners: tuple[int, int]
    """Two landmarks on a line that becomes horizontal, left to right in an upright image."""


LIPS = FaceRegion(
    (
        *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409),
        *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415),
        *(76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306, 184, 74, 73, 72, 11, 302, 303, 304, 408),
        *(62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292, 183, 42, 41, 38, 12, 268, 271, 272, 407),
    ),
    (61, 291),
)
EYE_RIGHT = FaceRegion(
    (
        *(33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173),
        *(130, 25, 110, 24, 23, 22, 26, 112, 243, 247, 30, 29, 27, 28, 56, 190),
        *(226, 31, 228, 229, 230, 231, 232, 233, 244, 113, 225, 224, 223, 222, 221, 189),
        *(35, 124, 46, 53, 52, 65, 143, 111, 117, 118, 119, 120, 121, 128, 245, 156, 70, 63, 105, 66, 107, 55, 193),
    ),
    (33, 133),
)
"""The subject's right eye, with lids, brow and the skin below."""
EYE_LEFT = FaceRegion(
    (
        *(263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398),
        *(359, 255, 339, 254, 253, 252, 256, 341, 463, 467, 260, 259, 257, 258, 286, 414),
        *(446, 261, 448, 449, 450, 451, 452, 453, 464, 342, 445, 444, 443, 442, 441, 413),
        *(265, 353, 276, 283, 282, 295, 372, 340, 346, 347, 348, 349, 350, 357, 465, 383, 300, 293, 334, 296, 336),
        *(285, 417),
    ),
    (362, 263),
)
"""The subject's left eye, with lids, brow and the skin below."""


def grid_to_region(region: FaceRegion, landmarks: Float[np.ndarray, "landmarks 2"]) -> Float[np.ndarray, "2 3"]:
    """Return the map from the grid to the box around a region of the face.

    Args:
        region: the region.
        landmarks: landmarks of the whole face, pixels of the features.
    """
    left, right = landmarks[list(region.corners)]
    angle = np.arctan2(*(right - left)[::-1])
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, -sin], [sin, cos]])
    upright = landmarks[list(region.landmarks)] @ rotation
    low, high = upright.min(0), upright.max(0)
    matrix = rotation * (_SCALE * (high - low) / GRID_SIDE)
    return np.column_stack([matrix, rotation @ (low + high) / 2 - matrix @ np.full(2, GRID_SIDE / 2)])


def sample_features(
    features: Float[np.ndarray, "rows columns channels"], grid_map: Float[np.ndarray, "2 3"]
) -> Float[np.ndarray, "grid grid channels"]:
    """Sample features at the pixel centres of the grid by bilinear interpolation; zero outside.

    Args:
        features: the centre of pixel (i, j) is (i + 0.5, j + 0.5).
        grid_map: map from the grid to the features.
    """
    y, x = np.mgrid[:GRID_SIDE, :GRID_SIDE] + 0.5
    positions = apply_map(grid_map, np.stack([x, y], -1)) - 0.5
    limit = np.array(features.shape[1::-1]) - 1
    inside = ((positions >= 0) & (positions <= limit)).all(-1)
    x, y = np.clip(np.floor(positions), 0, limit).astype(int).transpose(2, 0, 1)
    right, below = np.minimum(x + 1, limit[0]), np.minimum(y + 1, limit[1])
    wx, wy = (positions - np.stack([x, y], -1)).astype(np.float32)[..., None].transpose(2, 0, 1, 3)
    upper = features[y, x] * (1 - wx) + features[y, right] * wx
    lower = features[below, x] * (1 - wx) + features[below, right] * wx
    return np.where(inside[..., None], upper * (1 - wy) + lower * wy, 0)


def apply_map(
    matrix: Float[np.ndarray, "2 3"], points: Float[np.ndarray, "*points 2"]
) -> Float[np.ndarray, "*points 2"]:
    """Apply an affine map to points."""
    return points @ matrix[:, :2].T + matrix[:, 2]
