"""The default landmark detector: MediaPipe's face mesh, applied to each image and to its mirror image.

The mean of both detections has less noise and no bias to one side. Their difference measures the uncertainty.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from partnerface_ns.tracking.video.face_topology import mirror_indices
from partnerface_ns.tracking.video.interfaces import FaceLandmarks
from partnerface_ns.tracking.video.networks.face_mesh import FaceMesh

_MIN_SCORE, _MIN_PRESENCE = 0.3, 0.3
"""Thresholds of the face mesh, low because the face has been detected before."""


class FaceMeshDetector:
    """Detects the landmarks of one face in successive images (a `LandmarkDetector`)."""

    def __init__(self, follow: bool = True, mirrored: bool = True, far: bool = False) -> None:
        """
        Args:
            follow: the images are a video; the detector looks first where the face was last.
            mirrored: detect in the mirror image too.
            far: also detect faces of a tenth of the image.
        """
        num_meshes = 2 if mirrored else 1
        self._meshes = [FaceMesh(follow, _MIN_SCORE, _MIN_PRESENCE, far) for _ in range(num_meshes)]

    def forget(self) -> None:
        """Detect the face anew in the next image."""
        for mesh in self._meshes:
            mesh.forget()

    def __call__(self, rgb: UInt8[np.ndarray, "rows columns 3"], /) -> FaceLandmarks | None:
        """Return the mean landmarks and the median distance of both detections; None if either sees no face."""
        first = self._meshes[0](rgb)
        if first is None or len(self._meshes) == 1:
            return None if first is None else FaceLandmarks(first, 0.0)
        second = self._meshes[1](np.ascontiguousarray(rgb[:, ::-1]))
        if second is None:
            return None
        second[:, 0] = rgb.shape[1] - second[:, 0]
        second = second[mirror_indices()]
        distances = np.linalg.norm((first - second)[:, :2], axis=-1)
        return FaceLandmarks((first + second) / 2, float(np.median(distances)))
