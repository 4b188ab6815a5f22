"""The outline of the person: points of the matte's border, and which points of the head lie on it.

Pixels, x right and y down. An outline point has a normal that leads out of the person. The image's own border is no
outline.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partnerface_ns.tracking.video import require

NUM_POINTS = 128
"""Outline points of one frame."""
_BORDER = 4
"""Pixels of the image's border that are no outline."""
_RIM = 0.45
"""Largest cosine between normal and line of sight at which a surface point can lie on the outline."""
_SAME_WAY = 0.6
"""Least cosine between an outline's normal and that of the surface point which lies on it."""
_ALONG = 7.0
"""Pixels along the outline between a point of it and the surface point that is compared, at 512 pixels."""


def matte_outline(matte: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "points 4"]:
    """Points (x, y) and outward normals on the border of the largest piece of a matte, evenly along it.

    Fewer than `NUM_POINTS` are filled up with NaN; an empty matte gives only NaN.
    """
    cv2 = require("cv2")
    result = np.full((NUM_POINTS, 4), np.nan, dtype=np.float32)
    smooth = _smoothed(matte)
    points = _border(smooth)
    if len(points) < NUM_POINTS // 4:
        return result
    points = points[np.linspace(0, len(points) - 1, min(NUM_POINTS, len(points))).astype(int)]
    slope_x, slope_y = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    x, y = points.T
    normal = -np.stack([slope_x[y, x], slope_y[y, x]], -1)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    normal = normal / np.maximum(length, 1e-6)
    # Where the matte is steep one step along the normal reaches the level of one half with sub-pixel precision.
    step = (smooth[y, x] - 0.5) / np.maximum(length[:, 0] / 8, 0.05)
    result[: len(points), :2] = points + 0.5 + normal * np.clip(step, -1.5, 1.5)[:, None]
    result[: len(points), 2:] = np.where(length > 1e-3, normal, np.nan)
    return result


def matte_border(matte: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "pixels 2"]:
    """All pixels (x, y) on the border of the largest piece of a matte, to half a pixel."""
    return _border(_smoothed(matte)) + 0.5


def _smoothed(matte: np.ndarray) -> np.ndarray:
    return require("cv2").GaussianBlur(matte.astype(np.float32), (0, 0), 1.5)


def _border(smooth: np.ndarray) -> Int[np.ndarray, "pixels 2"]:
    """Columns and rows of the border, without the image's own."""
    cv2 = require("cv2")
    contours, _ = cv2.findContours((smooth > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = max(contours, key=len)[:, 0].astype(np.int64) if contours else np.zeros((0, 2), np.int64)
    rows, columns = smooth.shape
    inner = (points > _BORDER).all(-1) & (points[:, 0] < columns - _BORDER) & (points[:, 1] < rows - _BORDER)
    return points[inner]


def match_outline(
    outline: Float[Tensor, "frames points 4"],
    projected: Float[Tensor, "frames verts 2"],
    normals: Float[Tensor, "frames verts 2"],
    facing: Float[Tensor, "frames verts"],
    gate: float,
    px: float,
) -> tuple[Int[Tensor, "frames points"], Bool[Tensor, "frames points"]]:
    """For each outline point the surface point that lies farthest out beside it, and whether there is one.

    Args:
        outline: of the mattes, NaN where there is no point.
        projected: surface points in pixels.
        normals: their normals on the screen (unit length).
        facing: cosines between their normals and the lines of sight.
        gate: largest distance between outline and surface, pixels.
        px: pixels for one pixel at 512.
    """
    indices, found = [], []
    for o, p, n, f in zip(outline, projected, normals, facing, strict=True):
        rim = torch.nonzero(f.abs() < _RIM)[:, 0]
        offset = p[None, rim] - o[:, None, :2]
        out = (offset * o[:, None, 2:]).sum(-1)
        along = (offset[..., 0] * o[:, None, 3] - offset[..., 1] * o[:, None, 2]).abs()
        able = (along < _ALONG * px) & (out.abs() < gate) & (n[rim] @ o[:, 2:].T > _SAME_WAY).T
        out = torch.where(able, out, -torch.inf)
        # A column that is never able keeps the choice defined where the rim is empty.
        best = torch.nn.functional.pad(out, (0, 1), value=-torch.inf).max(-1)
        indices.append(torch.nn.functional.pad(rim, (0, 1))[best.indices])
        found.append(torch.isfinite(best.values))
    return torch.stack(indices), torch.stack(found)
