"""The colours of a face on a grid that is fixed to the skin, independent of pose and expression.

The grid covers the open head's face as seen from the front, from the upper end of the brows to the chin. Each grid
point is a weighted triple of landmarks and moves with the skin. The mouth's inside, the eyes and the border of the face
have no grid points, because their appearance changes from frame to frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.tracking.video.face_topology import CHIN, EYE_LEFT, EYE_RIGHT, FOREHEAD, LIPS, OVAL
from partnerface_ns.tracking.video.landmark_embedding import packaged_embedding
from partnerface_ns.tracking.video.packages import require

SPACING = 0.005
"""Metres between two grid points."""
_NUM_SKIN = 468
"""Number of landmarks on the skin; the others are on the irises."""
_INNER_LIPS = LIPS[20:]
_BLUR = 0.012
"""Standard deviation of the smoothing before colours are read, in face heights."""
_DARK_OFFSET = 10.0
"""Added to colours before the logarithm, so that noise in dark pixels has little weight."""
MAX_TURN_DIFFERENCE = 0.12
"""Largest difference of `face_turns` at which two frames can be compared; a face looks different from the side."""


@dataclass(frozen=True)
class FaceGrid:
    """Points at which the colours of a face are read."""

    points: Float[np.ndarray, "points 2"]
    """Metres on the open head seen from the front: x to the subject's left, y up."""
    corners: Int[np.ndarray, "points 3"]
    """Landmarks around each point."""
    weights: Float[np.ndarray, "points 3"]
    """Weights of the corners; they sum to one."""


@cache
def face_grid() -> FaceGrid:
    """Build the grid from the landmarks of the open head."""
    from scipy.spatial import Delaunay

    model = load_open_head()
    embedding = packaged_embedding(model.fingerprint)
    assert embedding is not None, "the open head's embedding ships with the package"
    landmarks = embedding.points(model.template.numpy().astype(np.float64))[:_NUM_SKIN, :2]
    triangles = Delaunay(landmarks)
    axes = [np.arange(low, high, SPACING) for low, high in zip(landmarks.min(0), landmarks.max(0), strict=True)]
    points = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    triangle = triangles.find_simplex(points)
    corners = triangles.simplices[triangle]
    holes = [np.isin(corners, ring).all(1) for ring in (_INNER_LIPS, EYE_LEFT, EYE_RIGHT)]
    kept = (triangle >= 0) & ~np.any(holes, 0) & ~np.isin(corners, OVAL).any(1)
    points, triangle, corners = points[kept], triangle[kept], corners[kept]
    transform = triangles.transform[triangle]
    first_two = np.einsum("pij,pj->pi", transform[:, :2], points - transform[:, 2])
    weights = np.concatenate([first_two, 1 - first_two.sum(1, keepdims=True)], 1)
    return FaceGrid(points, corners, weights)


def read_texture(
    rgb: UInt8[np.ndarray, "rows columns 3"], landmarks: Float[np.ndarray, "landmarks 3"]
) -> UInt8[np.ndarray, "points 3"]:
    """Read the colours at all grid points.

    Visibility is not tested: a hidden point has the colour of whatever is in front of it.
    """
    cv2 = require("cv2")
    grid = face_grid()
    height = float(np.linalg.norm(landmarks[FOREHEAD, :2] - landmarks[CHIN, :2]))
    smooth = cv2.GaussianBlur(rgb, (0, 0), max(0.5, _BLUR * height))
    pixels = np.einsum("pk,pkc->pc", grid.weights, landmarks[grid.corners][..., :2]).astype(np.float32) - 0.5
    return cv2.remap(smooth, pixels[:, None], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]


def grid_facing(landmarks: Float[np.ndarray, "frames landmarks 3"]) -> Float[np.ndarray, "frames points"]:
    """Cosine between the normal of each grid point and the line of sight, 0 to 1; NaN without landmarks."""
    a, b, c = np.moveaxis(landmarks[:, face_grid().corners].astype(np.float64), 2, 0)
    normal = np.cross(b - a, c - a)
    return np.abs(normal[..., 2]) / np.maximum(np.linalg.norm(normal, axis=-1), 1e-9)


def face_turns(
    facing: Float[np.ndarray, "frames points"], part: Bool[np.ndarray, "points"]
) -> Float[np.ndarray, "frames 2"]:
    """How much the left and the right half of a part of the face are turned to the camera, 0 to 1."""
    x = face_grid().points[:, 0]
    return np.stack([facing[:, part & (sign * x > 0)].mean(1) for sign in (1, -1)], -1)


def log_colours(texture: UInt8[np.ndarray, "frames points 3"]) -> Float[np.ndarray, "frames points 3"]:
    """Logarithms of colours; a change of light adds to them."""
    return np.log(texture.astype(np.float64) + _DARK_OFFSET)


def light_basis() -> Float[np.ndarray, "points 3"]:
    """Basis of light that changes slowly over the face: a constant and two slopes, each of magnitude about 1."""
    points = face_grid().points
    return np.concatenate([np.ones((len(points), 1)), (points - points.mean(0)) / np.abs(points).max()], 1)
