"""478 landmarks of a face, irises included, in pixels and a depth of the same unit (smaller is nearer).

A detector finds the face in the first image; afterwards the landmarks of an image say where to look in the next one.
The network sees the face upright. Its first part finds 468 landmarks of the whole face, its second part those of lips
and eyes once more, and the irises (`attention.py`). Depth comes from the first part alone; an iris has the mean depth
of its eye's rim.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8

from partnerface_ns.tracking.networks.attention import EYE_LEFT, EYE_RIGHT, LIPS, apply, map_to, sample
from partnerface_ns.tracking.networks.face_detector import SHORT_RANGE, FaceDetector
from partnerface_ns.tracking.networks.region import Region
from partnerface_ns.tracking.networks.runtime import ASSETS, Network

FACE_MODEL = ASSETS / "face_landmark_with_attention_face.tflite"
"""Image to features, landmarks of the whole face, and whether there is one."""
REGIONS_MODEL = ASSETS / "face_landmark_with_attention_regions.tflite"
"""Features of lips, right and left eye to the landmarks of these and of both irises."""
NUM_LANDMARKS = 478
_SIDE = 192
"""Pixels of the network's input."""
_STRIDE = 4
"""Pixels of the input for one of the features."""
_SCALE = 1.5
"""Side of the square that the network sees, in longer sides of the face's box."""
_EYES = [33, 263]
"""Outer corners of the subject's right and left eye."""
_IRIS_RIGHT, _IRIS_LEFT = tuple(range(468, 473)), tuple(range(473, 478))
_NUM_RIM = 16
"""Landmarks on the rim of an eye, the first of its region."""


class FaceMesh:
    """Finds the landmarks of the surest face in one image after the other."""

    def __init__(self, follow: bool, min_score: float, min_presence: float) -> None:
        """
        Args:
            follow: images are a video, so look where the face was last.
            min_score: of a face that is looked at, in [0, 1].
            min_presence: probability that the network saw a face, below which there are no landmarks.
        """
        self._detector = FaceDetector(SHORT_RANGE, min_score)
        self._face, self._regions = Network(FACE_MODEL), Network(REGIONS_MODEL)
        self._follow, self._min_presence = follow, min_presence
        self._next: Region | None = None

    def __call__(self, rgb: UInt8[np.ndarray, "rows columns 3"]) -> Float[np.ndarray, "478 3"] | None:
        """The landmarks; None without a face."""
        region = self._next or self._detected(rgb)
        landmarks = None if region is None else self._look(rgb, region)
        if self._follow:
            self._next = None if landmarks is None else region_of(landmarks)
        return landmarks

    def _detected(self, rgb: np.ndarray) -> Region | None:
        faces = self._detector(rgb)
        if not len(faces.scores):
            return None
        box = faces.boxes[0].reshape(2, 2)
        return Region.around(box[0], box[1], faces.points[0, :2], _SCALE)

    def _look(self, rgb: np.ndarray, region: Region) -> np.ndarray | None:
        image = region.cut(rgb, _SIDE, repeat_border=True).astype(np.float32) / 255
        features, mesh, presence = self._face(image)
        if 1 / (1 + np.exp(-float(presence.item()))) <= self._min_presence:
            return None
        landmarks = refine(features, mesh.reshape(-1, 3), self._regions) / _SIDE
        return np.column_stack([region.to_image(landmarks[:, :2]), landmarks[:, 2] * region.size[0]])


def refine(
    features: Float[np.ndarray, "rows columns channels"],
    mesh: Float[np.ndarray, "468 3"],
    look_closer: Callable[..., list[np.ndarray]],
) -> Float[np.ndarray, "478 3"]:
    """All landmarks in pixels of the network's input, after the closer look at lips and eyes.

    Args:
        features: of the first part.
        mesh: landmarks of the first part, pixels of the input.
        look_closer: the second part.
    """
    regions = (LIPS, EYE_RIGHT, EYE_LEFT)
    maps = [map_to(region, mesh[:, :2].astype(np.float64) / _STRIDE) for region in regions]
    lips, eye_right, eye_left, iris_right, iris_left = look_closer(*(sample(features, m) for m in maps))
    landmarks = np.zeros((NUM_LANDMARKS, 3))
    landmarks[: len(mesh)] = mesh
    for indices, places, grid_map in (
        (LIPS.landmarks, lips, maps[0]),
        (EYE_RIGHT.landmarks, eye_right, maps[1]),
        (EYE_LEFT.landmarks, eye_left, maps[2]),
        (_IRIS_RIGHT, iris_right, maps[1]),
        (_IRIS_LEFT, iris_left, maps[2]),
    ):
        # The second part counts in pixels of the input too, as if the grid were as fine.
        landmarks[list(indices), :2] = apply(grid_map, places.reshape(-1, 2) / _STRIDE) * _STRIDE
    for iris, eye in ((_IRIS_RIGHT, EYE_RIGHT), (_IRIS_LEFT, EYE_LEFT)):
        landmarks[list(iris), 2] = landmarks[list(eye.landmarks[:_NUM_RIM]), 2].mean()
    return landmarks


def region_of(landmarks: Float[np.ndarray, "478 3"]) -> Region:
    """Where to look for the face in the next image."""
    places = landmarks[:, :2]
    return Region.around(places.min(0), places.max(0), places[_EYES], _SCALE)
