"""MediaPipe's face mesh: 478 landmarks of a face, including the irises.

Landmarks are pixels (x, y) and a depth in the same unit (smaller is nearer). A detector finds the face in the first
image; in a video, the landmarks of one image define the input region in the next. Where the face has moved far, the
network looks again in the region of its own landmarks. The network sees the face upright. Its first part finds 468
landmarks of the whole face. Its second part refines those of lips and eyes and adds the irises (`attention.py`). Depth
comes from the first part; an iris has the mean depth of the rim of its eye.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8

from partnerface_ns.tracking.video.face_topology import IRIS_LEFT, IRIS_RIGHT, NUM_LANDMARKS
from partnerface_ns.tracking.video.networks.attention import (
    EYE_LEFT,
    EYE_RIGHT,
    LIPS,
    apply_map,
    grid_to_region,
    sample_features,
)
from partnerface_ns.tracking.video.networks.blazeface import FULL_RANGE, SHORT_RANGE, BlazeFace
from partnerface_ns.tracking.video.networks.region import ImageRegion
from partnerface_ns.tracking.video.networks.runtime import ASSETS, Network

FACE_MODEL = ASSETS / "face_landmark_with_attention_face.tflite"
"""Maps an image to features, landmarks of the whole face, and the presence of a face."""
REGIONS_MODEL = ASSETS / "face_landmark_with_attention_regions.tflite"
"""Maps features of lips, right eye and left eye to their landmarks and those of both irises."""
_SIDE = 192
"""Side of the network's input, pixels."""
_STRIDE = 4
"""Pixels of the input per pixel of the features."""
_SCALE = 1.5
"""Side of the input region, relative to the longer side of the face's box."""
_MAX_LOOKS = 3
"""Largest number of times that the network looks at one image."""
_FAR, _TURNED = 0.05, 0.1
"""Change from which the face is looked at again: move or growth, relative to the smaller region's side, and turn, in
radians."""
_EYES = [33, 263]
"""Outer corners of the subject's right and left eye."""
_NUM_RIM = 16
"""Number of landmarks on the rim of an eye; they are the first of its region."""


class FaceMesh:
    """The network with its pre- and postprocessing; uses the face with the highest score."""

    def __init__(self, follow: bool, min_score: float, min_presence: float, far: bool = False) -> None:
        """
        Args:
            follow: the images are a video; look first where the face was last.
            min_score: smallest score of a detected face, in [0, 1].
            min_presence: smallest probability of a face, as estimated by the network.
            far: also detect faces of a tenth of the image.
        """
        self._detectors = [BlazeFace(variant, min_score) for variant in (SHORT_RANGE, FULL_RANGE)[: 1 + far]]
        self._face, self._regions = Network(FACE_MODEL), Network(REGIONS_MODEL)
        self._follow, self._min_presence = follow, min_presence
        self._next: ImageRegion | None = None

    def __call__(self, rgb: UInt8[np.ndarray, "rows columns 3"]) -> Float[np.ndarray, "478 3"] | None:
        """Return the landmarks, or None if there is no face."""
        landmarks = None if self._next is None else self._find_again(rgb, self._next)
        if landmarks is None:
            region = self._detect(rgb)
            landmarks = None if region is None else self._find_landmarks(rgb, region)
        if self._follow:
            self._next = None if landmarks is None else region_around(landmarks)
        return landmarks

    def forget(self) -> None:
        """Detect the face anew in the next image."""
        self._next = None

    def _detect(self, rgb: UInt8[np.ndarray, "rows columns 3"]) -> ImageRegion | None:
        detections = [faces for faces in (detector(rgb) for detector in self._detectors) if len(faces.scores)]
        if not detections:
            return None
        best = max(detections, key=lambda faces: faces.scores[0])
        box = best.boxes[0].reshape(2, 2)
        return ImageRegion.around(box[0], box[1], best.points[0, :2], _SCALE)

    def _find_again(
        self, rgb: UInt8[np.ndarray, "rows columns 3"], region: ImageRegion
    ) -> Float[np.ndarray, "478 3"] | None:
        """The landmarks of a face that was in a region before, pixels of the image.

        If the face has moved far, as at a cut, the network looks again where it is now, which takes up to three times
        as long. Returns None if the network does not see a face at its last look.
        """
        landmarks = None
        for _ in range(_MAX_LOOKS):
            landmarks = self._find_landmarks(rgb, region)
            if landmarks is None:
                break
            region, before = region_around(landmarks), region
            if not _is_far(before, region):
                break
        return landmarks

    def _find_landmarks(
        self, rgb: UInt8[np.ndarray, "rows columns 3"], region: ImageRegion
    ) -> Float[np.ndarray, "478 3"] | None:
        image = region.cut(rgb, _SIDE, repeat_border=True).astype(np.float32) / 255
        features, mesh, presence = self._face(image)
        if 1 / (1 + np.exp(-float(presence.item()))) <= self._min_presence:
            return None
        landmarks = refine_landmarks(features, mesh.reshape(-1, 3), self._regions) / _SIDE
        return np.column_stack([region.to_image(landmarks[:, :2]), landmarks[:, 2] * region.size[0]])


def refine_landmarks(
    features: Float[np.ndarray, "rows columns channels"],
    mesh: Float[np.ndarray, "468 3"],
    second_part: Callable[..., list[np.ndarray]],
) -> Float[np.ndarray, "478 3"]:
    """Return all landmarks in pixels of the network's input, with refined lips and eyes.

    Args:
        features: features of the first part.
        mesh: landmarks of the first part, pixels of the input.
        second_part: the second part of the network.
    """
    regions = (LIPS, EYE_RIGHT, EYE_LEFT)
    maps = [grid_to_region(region, mesh[:, :2].astype(np.float64) / _STRIDE) for region in regions]
    lips, eye_right, eye_left, iris_right, iris_left = second_part(*(sample_features(features, m) for m in maps))
    landmarks = np.zeros((NUM_LANDMARKS, 3))
    landmarks[: len(mesh)] = mesh
    for indices, positions, grid_map in (
        (list(LIPS.landmarks), lips, maps[0]),
        (list(EYE_RIGHT.landmarks), eye_right, maps[1]),
        (list(EYE_LEFT.landmarks), eye_left, maps[2]),
        (IRIS_RIGHT, iris_right, maps[1]),
        (IRIS_LEFT, iris_left, maps[2]),
    ):
        # The second part returns grid positions multiplied by the stride.
        landmarks[indices, :2] = apply_map(grid_map, positions.reshape(-1, 2) / _STRIDE) * _STRIDE
    for iris, eye in ((IRIS_RIGHT, EYE_RIGHT), (IRIS_LEFT, EYE_LEFT)):
        landmarks[iris, 2] = landmarks[list(eye.landmarks[:_NUM_RIM]), 2].mean()
    return landmarks


def region_around(landmarks: Float[np.ndarray, "478 3"]) -> ImageRegion:
    """Return the input region for the next image."""
    points = landmarks[:, :2]
    return ImageRegion.around(points.min(0), points.max(0), points[_EYES], _SCALE)


def _is_far(a: ImageRegion, b: ImageRegion) -> bool:
    """Whether two square regions differ so much that the network sees a face in one of them worse than in the other."""
    moved = max(np.abs(a.centre - b.centre).max(), np.abs(a.size - b.size).max()) / min(a.size.min(), b.size.min())
    turned = abs((a.angle - b.angle + np.pi) % (2 * np.pi) - np.pi)
    return bool(moved > _FAR or turned > _TURNED)
