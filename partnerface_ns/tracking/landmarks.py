"""The 478 face landmarks of MediaPipe's face mesh, irises included, with what is known about their error.

Landmarks are pixels (x right, y down) of the image and a depth in the same unit (smaller is nearer). Each frame is
looked at as it is and mirrored; the mean of both is less noisy and not biased to a side, and their difference says how
sure the detector is.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float, Int, UInt8

from partnerface_ns.tracking.networks.face_mesh import NUM_LANDMARKS as NUM_LANDMARKS
from partnerface_ns.tracking.networks.face_mesh import FaceMesh

IRIS_RIGHT, IRIS_LEFT = slice(468, 473), slice(473, 478)
"""Centre and four points of the rim, of the subject's right and left iris."""
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
"""Outline of the face: it slides over the skin when the head turns."""


@cache
def mirror_indices() -> Int[np.ndarray, "landmarks"]:
    """For each landmark the one on the other side of the face."""
    path = files("partnerface_ns.tracking") / "assets" / "landmark_mirror.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return archive["mirror"].astype(np.int64)


class LandmarkDetector:
    """Finds the landmarks of one frame after the other. Close it, or use it in a `with` statement."""

    def __init__(self, follow: bool = True, mirrored: bool = True) -> None:
        """
        Args:
            follow: frames are a video, so look where the face was last.
            mirrored: look at the mirrored image too.
        """
        self._meshes = [FaceMesh(follow, min_score=0.3, min_presence=0.3) for _ in range(2 if mirrored else 1)]

    def __enter__(self) -> LandmarkDetector:
        return self

    def __exit__(self, *exception: object) -> None:
        self._meshes.clear()

    def __call__(
        self, rgb: UInt8[np.ndarray, "rows columns 3"]
    ) -> tuple[Float[np.ndarray, "landmarks 3"], float] | None:
        """Landmarks and the median difference of the two looks in pixels (0 for one look); None without a face."""
        first = self._meshes[0](rgb)
        if first is None or len(self._meshes) == 1:
            return None if first is None else (first, 0.0)
        second = self._meshes[1](np.ascontiguousarray(rgb[:, ::-1]))
        if second is None:
            return None
        second[:, 0] = rgb.shape[1] - second[:, 0]
        second = second[mirror_indices()]
        return (first + second) / 2, float(np.median(np.linalg.norm((first - second)[:, :2], axis=-1)))
