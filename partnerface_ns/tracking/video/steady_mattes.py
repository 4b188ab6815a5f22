"""Steadier mattes: where the image hardly changes from frame to frame, alpha is averaged over these frames."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, UInt8

from partnerface_ns.tracking.video.packages import require

_CHANGE = 3.0
"""Change of a colour, on a scale of 255, that counts as noise."""
_WINDOW = (3, 3)
"""Pixels over which changes are averaged."""


def steady_matte(
    rgb: UInt8[np.ndarray, "rows columns 3"],
    matte: Float[np.ndarray, "rows columns"],
    neighbours: Iterable[tuple[UInt8[np.ndarray, "rows columns 3"], Float[np.ndarray, "rows columns"]]],
) -> Float[np.ndarray, "rows columns"]:
    """Return the mean of a matte and of its neighbours' mattes, weighted by how little the image changes.

    Args:
        rgb: the image.
        matte: of the image.
        neighbours: images and mattes of the frames before and after.
    """
    total, weights = matte.astype(np.float32), np.ones_like(matte)
    for other, other_matte in neighbours:
        change = np.square(rgb.astype(np.float32) - other).mean(-1)
        weight = np.exp(-require("cv2").blur(change, _WINDOW) / (2 * _CHANGE**2))
        total += weight * other_matte
        weights += weight
    return total / weights
