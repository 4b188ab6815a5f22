"""The colours of a face at fixed places of it, whatever its pose and expression.

The places are a grid over the open head's face, seen from the front, between brows' upper end and chin. A place is a
weighted triple of landmarks, so it stays on the same piece of skin when the face moves. The inside of mouth and eyes
and the face's border have no places: what is seen there changes from frame to frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int, UInt8

from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.tracking.embedding import landmark_embedding
from partnerface_ns.tracking.landmarks import EYE_LEFT, EYE_RIGHT, LIPS, OVAL
from partnerface_ns.tracking.video import require

SPACING = 0.005
"""Metres between two places."""
_NUM_SKIN = 468
"""Landmarks on the skin; the others are the irises'."""
_INNER_LIPS = LIPS[20:]
_BLUR = 0.012
"""Standard deviation of the smoothing before colours are read, in face heights."""
_DARKEST = 10.0
"""Added to colours before the logarithm, so that noise in dark places counts little."""


@dataclass(frozen=True)
class FacePlaces:
    """Where colours are read."""

    points: Float[np.ndarray, "places 2"]
    """Metres on the open head seen from the front: x to the subject's left, y up."""
    corners: Int[np.ndarray, "places 3"]
    """Landmarks around each place."""
    weights: Float[np.ndarray, "places 3"]
    """Sum to one."""


@cache
def face_places() -> FacePlaces:
    """The grid of places."""
    from scipy.spatial import Delaunay

    model = load_open_head()
    at = landmark_embedding(model).points(model.template.numpy().astype(np.float64))[:_NUM_SKIN, :2]
    triangles = Delaunay(at)
    axes = (np.arange(low, high, SPACING) for low, high in zip(at.min(0), at.max(0), strict=True))
    grid = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    inside = triangles.find_simplex(grid)
    corners = triangles.simplices[inside]
    holes = [np.isin(corners, ring).all(1) for ring in (_INNER_LIPS, EYE_LEFT, EYE_RIGHT)]
    kept = (inside >= 0) & ~np.any(holes, 0) & ~np.isin(corners, OVAL).any(1)
    grid, inside, corners = grid[kept], inside[kept], corners[kept]
    transform = triangles.transform[inside]
    first = np.einsum("pij,pj->pi", transform[:, :2], grid - transform[:, 2])
    return FacePlaces(grid, corners, np.concatenate([first, 1 - first.sum(1, keepdims=True)], 1))


def read_texture(
    rgb: UInt8[np.ndarray, "rows columns 3"], landmarks: Float[np.ndarray, "landmarks 3"]
) -> UInt8[np.ndarray, "places 3"]:
    """The colours of a face at all places; those that are turned away or hidden show what is in front of them."""
    cv2 = require("cv2")
    places = face_places()
    height = float(np.linalg.norm(landmarks[10, :2] - landmarks[152, :2]))
    smooth = cv2.GaussianBlur(rgb, (0, 0), max(0.5, _BLUR * height))
    at = np.einsum("pk,pkc->pc", places.weights, landmarks[places.corners][..., :2]).astype(np.float32) - 0.5
    return cv2.remap(smooth, at[:, None], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]


def facing(landmarks: Float[np.ndarray, "frames landmarks 3"]) -> Float[np.ndarray, "frames places"]:
    """Cosine between each place's normal and the line of sight, 0 to 1; NaN where there are no landmarks."""
    a, b, c = np.moveaxis(landmarks[:, face_places().corners].astype(np.float64), 2, 0)
    normal = np.cross(b - a, c - a)
    return np.abs(normal[..., 2]) / np.maximum(np.linalg.norm(normal, axis=-1), 1e-9)


def logarithm(texture: UInt8[np.ndarray, "frames places 3"]) -> Float[np.ndarray, "frames places 3"]:
    """Colours in which a change of light is a sum."""
    return np.log(texture.astype(np.float64) + _DARKEST)


def smooth_light() -> Float[np.ndarray, "places 3"]:
    """Light that changes slowly over the face: a constant and two slopes, about one in size."""
    points = face_places().points
    return np.concatenate([np.ones((len(points), 1)), (points - points.mean(0)) / np.abs(points).max()], 1)
