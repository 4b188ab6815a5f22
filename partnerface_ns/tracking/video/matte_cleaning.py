"""Removal of other people and objects from a matte."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from partnerface_ns.tracking.video.face_topology import OVAL
from partnerface_ns.tracking.video.packages import require

_PRESENT = 0.1
"""Matte from which a pixel connects regions."""
_MAX_LOOSE_SHARE = 0.003
"""Largest solid region that can be a strand of hair or a temple of glasses, as a share of the image's area."""
_BRIDGED_SHARE = 0.02
"""Largest gap between two regions that count as connected, as a share of the image's side."""


def keep_main_person(
    matte: Float[np.ndarray, "rows columns"], landmarks: Float[np.ndarray, "landmarks 3"]
) -> Float[np.ndarray, "rows columns"]:
    """Set a matte to 0 where it is not connected with the main face or with the body below it.

    Small or faint regions nearby, such as loose hair and the temples of glasses, are kept. A large solid region is
    removed, even if faint pixels lead to it.

    Args:
        matte: 1 on the person.
        landmarks: of the main face, pixels.
    """
    cv2 = require("cv2")
    reach = 2 * max(1, round(_BRIDGED_SHARE * min(matte.shape) / 2)) + 1
    window = np.ones((reach, reach), dtype=np.uint8)
    rows, columns = matte.shape
    seeds = (_face_and_below((rows, columns), landmarks) > 0) & (matte > 0.5)
    _, solid, stats, _ = cv2.connectedComponentsWithStats((matte > 0.5).astype(np.uint8))
    large = np.nonzero(stats[:, cv2.CC_STAT_AREA] > _MAX_LOOSE_SHARE * matte.size)[0]
    strays = np.isin(solid, np.setdiff1d(large, [0, *np.unique(solid[seeds])])).astype(np.uint8)
    present = cv2.dilate((matte > _PRESENT).astype(np.uint8), window) & (1 - cv2.dilate(strays, window))
    _, labels = cv2.connectedComponents(present)
    kept = np.unique(labels[seeds])
    return matte * np.isin(labels, kept[kept > 0])


def _face_and_below(
    shape: tuple[int, int], landmarks: Float[np.ndarray, "landmarks 3"]
) -> UInt8[np.ndarray, "rows columns"]:
    """Mask of the face, and of the strip below it, as wide as the face, down to the image's lower border."""
    outline = landmarks[list(OVAL), :2]
    low, high = outline.min(0), outline.max(0)
    strip = np.array([low, [high[0], low[1]], [high[0], shape[0]], [low[0], shape[0]]])
    strip[:2, 1] = outline[:, 1].mean()
    seeds = np.zeros(shape, dtype=np.uint8)
    for polygon in (outline, strip):
        require("cv2").fillPoly(seeds, [np.round(polygon).astype(np.int32)], 1)
    return seeds
