"""The extent of the head around a face, from hair to chin and to both sides.

The box of a face ends at the brows; a rough segmentation of the person shows hair and ears.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from partnerface_ns.tracking.video.interfaces import Box
from partnerface_ns.tracking.video.packages import require

_AROUND = 1.6
"""Half the size of the area that is searched for the head, in sizes of the face's box."""
_MOUTH, _CHIN = 0.75, 1.05
"""Distances of mouth and chin from the top of the box, in its heights. Shoulders begin below the mouth."""


def head_window(box: Box, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the part of a frame (left, top, right, bottom) that shows head and shoulders."""
    centre, reach = box[:2] + box[2:] / 2, 2 * float(box[2:].max())
    low = np.clip(np.floor(centre - reach), 0, None).astype(int)
    high = np.minimum(np.ceil(centre + reach), (shape[1], shape[0])).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def head_extent(person: Float[np.ndarray, "rows columns"], box: Box) -> Float[np.ndarray, "4"]:
    """Return left, top, right and bottom of the head in pixels; NaN if there is no person at the face.

    Args:
        person: segmentation in [0, 1].
        box: the face, in pixels of the segmentation.
    """
    _, labels = require("cv2").connectedComponents((person > 0.5).astype(np.uint8))
    rows, columns = labels.shape
    centre, reach = box[:2] + box[2:] / 2, _AROUND * box[2:]
    column, row = np.clip(centre, 0, (columns - 1, rows - 1)).astype(int)
    if labels[row, column] == 0:
        return np.full(4, np.nan)
    left, right = (int(np.clip(centre[0] + sign * reach[0], 0, columns)) for sign in (-1, 1))
    top = int(np.clip(centre[1] - reach[1], 0, rows))
    mouth = int(np.clip(box[1] + _MOUTH * box[3], row + 1, rows))
    y, x = np.nonzero(labels[top:mouth, left:right] == labels[row, column])
    return np.array([left + x.min(), top + y.min(), left + x.max() + 1, box[1] + _CHIN * box[3]], dtype=float)
