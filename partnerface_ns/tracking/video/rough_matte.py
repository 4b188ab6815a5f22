"""A rough matte: where the person is, with edges that are right within a few percent of the head's height."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

from partnerface_ns.tracking.video.guided_filter import guided_filter
from partnerface_ns.tracking.video.interfaces import Matting
from partnerface_ns.tracking.video.packages import require

_HEAD = 2.0
"""Side of the square around the head, in heights of the landmarks."""
_ABOVE = 0.18
"""Distance of its centre above the landmarks' centre, in their heights."""
_FADE = 8
"""The matte of the square fades out over its side divided by this."""
_RADIUS_SHARE = 0.03
"""Radius of the guided filter, as a share of the image's side."""
_SMOOTHNESS = 2e-4
"""Variance of colours in [0, 1] below which the guided filter sees no edge."""
_CONTRAST = 2.2
"""Contrast that the filtered matte gets around one half."""


def find_person(
    matting: Matting, rgb: UInt8[np.ndarray, "rows columns 3"], landmarks: Float[np.ndarray, "landmarks 3"]
) -> Float[np.ndarray, "rows columns"]:
    """The matting model's matte of the image, and of the square around the head, in which it sees more detail."""
    rows, columns, _ = rgb.shape
    whole = matting(rgb).astype(np.float32)
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    height = float(high[1] - low[1])
    centre, reach = (low + high) / 2 - [0, _ABOVE * height], _HEAD * height / 2
    left, top = np.clip(np.round(centre - reach), 0, None).astype(int)
    right, bottom = np.minimum(np.round(centre + reach), (columns, rows)).astype(int)
    fade = max(1, (right - left) // _FADE)
    weight = np.zeros((rows, columns), dtype=np.float32)
    inner = [
        side + sign * fade * (0 < side < end)
        for side, sign, end in ((top, 1, rows), (bottom, -1, rows), (left, 1, columns), (right, -1, columns))
    ]
    weight[inner[0] : inner[1], inner[2] : inner[3]] = 1
    weight = require("cv2").blur(weight, (fade | 1, fade | 1))
    near = whole.copy()
    near[top:bottom, left:right] = matting(np.ascontiguousarray(rgb[top:bottom, left:right]))
    return whole + weight * (near - whole)


def follow_edges(
    rgb: UInt8[np.ndarray, "rows columns 3"], matte: Float[np.ndarray, "rows columns"]
) -> Float[np.ndarray, "rows columns"]:
    """Move the edges of a matte to those of the image."""
    radius = max(2, round(_RADIUS_SHARE * min(matte.shape)))
    fine = guided_filter(rgb.astype(np.float32) / 255, matte, radius, _SMOOTHNESS)
    return np.clip((fine - 0.5) * _CONTRAST + 0.5, 0, 1)


def surely_background(matte: Float[np.ndarray, "rows columns"], clearance: float) -> Bool[np.ndarray, "rows columns"]:
    """Pixels farther than a distance, in pixels, from all that may be a person."""
    reach = 2 * max(1, round(clearance)) + 1
    return require("cv2").dilate((matte > 0.1).astype(np.uint8), np.ones((reach, reach), np.uint8)) == 0
