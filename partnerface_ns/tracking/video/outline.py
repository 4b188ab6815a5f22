"""The outline of the person: points on the border of a matte, with normals that point out of the person.

Pixels, x right and y down. The border of the image itself does not count as outline.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from partnerface_ns.tracking.video.packages import require

NUM_POINTS = 128
"""Outline points of one frame."""
_IMAGE_BORDER = 4
"""Width of the image's border in which there is no outline, pixels."""


def matte_outline(matte: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "points 4"]:
    """Return points (x, y) and outward normals, evenly spread along the border of the matte's largest region.

    Missing points are NaN: all of them if the border is shorter than `NUM_POINTS / 4` pixels.
    """
    cv2 = require("cv2")
    result = np.full((NUM_POINTS, 4), np.nan, dtype=np.float32)
    smooth = _smooth(matte)
    points = _border(smooth)
    if len(points) < NUM_POINTS // 4:
        return result
    points = points[np.linspace(0, len(points) - 1, min(NUM_POINTS, len(points))).astype(int)]
    slope_x, slope_y = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    x, y = points.T
    normal = -np.stack([slope_x[y, x], slope_y[y, x]], -1)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    normal = normal / np.maximum(length, 1e-6)
    # One Newton step along the normal moves a point to the level of one half, with sub-pixel precision.
    step = (smooth[y, x] - 0.5) / np.maximum(length[:, 0] / 8, 0.05)
    result[: len(points), :2] = points + 0.5 + normal * np.clip(step, -1.5, 1.5)[:, None]
    result[: len(points), 2:] = np.where(length > 1e-3, normal, np.nan)
    return result


def matte_border(matte: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "pixels 2"]:
    """Return the centres (x, y) of all pixels on the border of the matte's largest region."""
    return _border(_smooth(matte)) + 0.5


def _smooth(matte: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows columns"]:
    return require("cv2").GaussianBlur(matte.astype(np.float32), (0, 0), 1.5)


def _border(smooth: Float[np.ndarray, "rows columns"]) -> Int[np.ndarray, "pixels 2"]:
    """Columns and rows of the border pixels, without those at the image's border."""
    cv2 = require("cv2")
    contours, _ = cv2.findContours((smooth > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = max(contours, key=len)[:, 0].astype(np.int64) if contours else np.zeros((0, 2), np.int64)
    rows, columns = smooth.shape
    inner = (
        (points > _IMAGE_BORDER).all(-1)
        & (points[:, 0] < columns - _IMAGE_BORDER)
        & (points[:, 1] < rows - _IMAGE_BORDER)
    )
    return points[inner]
