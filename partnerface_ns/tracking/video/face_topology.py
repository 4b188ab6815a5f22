"""Indices of MediaPipe's 478 face landmarks.

Left and right are the subject's.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Int

NUM_LANDMARKS = 478
IRIS_RIGHT, IRIS_LEFT = slice(468, 473), slice(473, 478)
"""The centre and four rim points of the subject's right and left iris."""
LIPS = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409),
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415),
)
EYE_RIGHT = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
EYE_LEFT = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
BROWS = (
    *(276, 283, 282, 295, 285, 300, 293, 334, 296, 336),
    *(46, 53, 52, 65, 55, 70, 63, 105, 66, 107),
)
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
"""Outline of the face. These landmarks slide over the skin when the head turns."""
FOREHEAD, CHIN = 10, 152
"""Uppermost and lowest landmark of the outline."""


@cache
def mirror_indices() -> Int[np.ndarray, "landmarks"]:
    """The index of each landmark's counterpart on the other side of the face."""
    path = files("partnerface_ns.tracking.video") / "assets" / "landmark_mirror.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return archive["mirror"].astype(np.int64)
