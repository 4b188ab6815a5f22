"""Faces in an image: boxes and key points, found by BlazeFace.

The network looks at the whole image, resized and padded to a square. Each of its anchors says how likely a face is
there and where its box and its six key points lie, relative to the anchor. Boxes of one face are then averaged,
weighted by their scores. Source: Bazarevsky et al., "BlazeFace: sub-millisecond neural face detection on mobile GPUs",
2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from partnerface_ns.tracking.networks.region import Region
from partnerface_ns.tracking.networks.runtime import ASSETS, Network

_SAME_FACE = 0.3
"""Intersection over union of two boxes above which they are of one face."""


@dataclass(frozen=True)
class DetectorModel:
    """A network of the BlazeFace family and the grids of its anchors."""

    path: Path
    side: int
    """Pixels of its input."""
    grids: tuple[tuple[int, int], ...]
    """Cells a side, and anchors a cell, of each grid."""


SHORT_RANGE = DetectorModel(ASSETS / "face_detection_short_range.tflite", 128, ((16, 2), (8, 6)))
"""For faces near the camera."""
FULL_RANGE = DetectorModel(ASSETS / "face_detection_full_range_sparse.tflite", 192, ((48, 1),))
"""For faces down to a tenth of the image."""


@dataclass(frozen=True)
class Detections:
    """The faces of one image, the surest first."""

    boxes: Float[np.ndarray, "faces 4"]
    """Low x, low y, high x, high y: pixels of the image, around brows to chin."""
    points: Float[np.ndarray, "faces 6 2"]
    """The subject's right eye, left eye, tip of the nose, mouth, right ear and left ear: pixels of the image."""
    scores: Float[np.ndarray, "faces"]
    """In [0, 1]."""


class FaceDetector:
    """Finds the faces of one image after the other."""

    def __init__(self, model: DetectorModel, min_score: float) -> None:
        """
        Args:
            model: `SHORT_RANGE` or `FULL_RANGE`.
            min_score: faces of a lower score are left out.
        """
        self._network = Network(model.path)
        self._side, self._min_score = model.side, min_score
        self._anchors = anchor_centres(model.grids)

    def __call__(self, rgb: UInt8[np.ndarray, "rows columns 3"]) -> Detections:
        """All faces."""
        region = Region.whole(rgb).squared()
        image = region.cut(rgb, self._side).astype(np.float32) / 127.5 - 1
        offsets, logits = self._network(image)
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 0].astype(np.float64), -100, 100)))
        sure = scores >= self._min_score
        corners, scores = decode(offsets[sure], self._anchors[sure], self._side), scores[sure]
        # A box that is turned inside out is none.
        valid = (corners[:, 1] >= corners[:, 0]).all(-1)
        corners, scores = average_overlapping(corners[valid], scores[valid])
        corners = region.to_image(corners)
        return Detections(corners[:, :2].reshape(-1, 4), corners[:, 2:], scores)


def anchor_centres(grids: tuple[tuple[int, int], ...]) -> Float[np.ndarray, "anchors 2"]:
    """Centres (u, v) of the anchors, in shares of the input: row after row, all anchors of a cell at its centre."""
    centres = []
    for cells, anchors_per_cell in grids:
        v, u = np.mgrid[:cells, :cells] + 0.5
        centres.append(np.repeat(np.stack([u, v], -1).reshape(-1, 2) / cells, anchors_per_cell, 0))
    return np.concatenate(centres)


def decode(
    offsets: Float[np.ndarray, "anchors 16"], centres: Float[np.ndarray, "anchors 2"], side: int
) -> Float[np.ndarray, "anchors 8 2"]:
    """Low and high corner of the box and the six key points of each anchor, in shares of the input.

    Args:
        offsets: the box's centre from the anchor's, its width and height, then the points from the anchor's centre, in
            pixels of the input.
        centres: of the anchors, in shares of the input.
        side: of the input.
    """
    values = offsets.reshape(-1, 8, 2).astype(np.float64) / side
    centre, half = values[:, 0] + centres, values[:, 1] / 2
    return np.concatenate([(centre - half)[:, None], (centre + half)[:, None], values[:, 2:] + centres[:, None]], 1)


def average_overlapping(
    corners: Float[np.ndarray, "boxes points 2"], scores: Float[np.ndarray, "boxes"]
) -> tuple[Float[np.ndarray, "faces points 2"], Float[np.ndarray, "faces"]]:
    """One set of points for each face: the mean of all that overlap the surest, weighted by score.

    Args:
        corners: low corner, high corner, and other points that are averaged too.
        scores: of the boxes.

    Returns:
        Points and the highest score of each face, the surest first.
    """
    left = np.argsort(-scores, kind="stable")
    points, best = [], []
    while len(left):
        same = overlap_with(corners[left[0]], corners[left]) > _SAME_FACE
        # A box without area overlaps nothing, itself included.
        same[0] = True
        points.append(np.average(corners[left[same]], axis=0, weights=scores[left[same]]))
        best.append(scores[left[0]])
        left = left[~same]
    return np.array(points).reshape(-1, *corners.shape[1:]), np.array(best)


def overlap_with(
    box: Float[np.ndarray, "points 2"], boxes: Float[np.ndarray, "boxes points 2"]
) -> Float[np.ndarray, "boxes"]:
    """Intersection over union of one box with others, each given by its low and its high corner."""
    low, high = np.maximum(box[0], boxes[:, 0]), np.minimum(box[1], boxes[:, 1])
    shared = np.clip(high - low, 0, None).prod(-1)
    union = (box[1] - box[0]).prod() + (boxes[:, 1] - boxes[:, 0]).prod(-1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
