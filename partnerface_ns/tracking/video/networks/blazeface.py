"""BlazeFace: boxes and key points of the faces in an image.

The network sees the whole image, resized and padded to a square. For each of its anchors it predicts the probability of
a face, and the box and six key points relative to the anchor. Boxes of one face are averaged with their scores as
weights. Source: Bazarevsky et al., "BlazeFace: sub-millisecond neural face detection on mobile GPUs", 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from partnerface_ns.tracking.video.networks.region import ImageRegion
from partnerface_ns.tracking.video.networks.runtime import ASSETS, Network

_SAME_FACE = 0.3
"""Intersection over union above which two boxes show one face."""


@dataclass(frozen=True)
class BlazeFaceVariant:
    """A network of the BlazeFace family, with the grids of its anchors."""

    path: Path
    side: int
    """Side of the input, pixels."""
    grids: tuple[tuple[int, int], ...]
    """Cells per side and anchors per cell of each grid."""


SHORT_RANGE = BlazeFaceVariant(ASSETS / "face_detection_short_range.tflite", 128, ((16, 2), (8, 6)))
"""For faces near the camera."""
FULL_RANGE = BlazeFaceVariant(ASSETS / "face_detection_full_range_sparse.tflite", 192, ((48, 1),))
"""Also for faces of a tenth of the image."""


@dataclass(frozen=True)
class Detections:
    """The faces of one image, highest score first."""

    boxes: Float[np.ndarray, "faces 4"]
    """Left, top, right and bottom in pixels, from brows to chin."""
    points: Float[np.ndarray, "faces 6 2"]
    """The subject's right eye, left eye, tip of the nose, mouth, right ear and left ear, pixels."""
    scores: Float[np.ndarray, "faces"]
    """In [0, 1]."""


class BlazeFace:
    """The network with its pre- and postprocessing."""

    def __init__(self, variant: BlazeFaceVariant, min_score: float) -> None:
        """
        Args:
            variant: `SHORT_RANGE` or `FULL_RANGE`.
            min_score: faces with a lower score are left out.
        """
        self._network = Network(variant.path)
        self._side, self._min_score = variant.side, min_score
        self._anchors = anchor_centres(variant.grids)

    def __call__(self, rgb: UInt8[np.ndarray, "rows columns 3"]) -> Detections:
        """Return all faces."""
        region = ImageRegion.whole(rgb).to_square()
        image = region.cut(rgb, self._side).astype(np.float32) / 127.5 - 1
        offsets, logits = self._network(image)
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 0].astype(np.float64), -100, 100)))
        kept = scores >= self._min_score
        corners, scores = decode_boxes(offsets[kept], self._anchors[kept], self._side), scores[kept]
        # A box with negative width or height is invalid.
        valid = (corners[:, 1] >= corners[:, 0]).all(-1)
        corners, scores = average_overlapping(corners[valid], scores[valid])
        corners = region.to_image(corners)
        return Detections(corners[:, :2].reshape(-1, 4), corners[:, 2:], scores)


def anchor_centres(grids: tuple[tuple[int, int], ...]) -> Float[np.ndarray, "anchors 2"]:
    """Centres (u, v) of the anchors in shares of the input, row by row; the anchors of a cell share its centre."""
    centres = []
    for cells, anchors_per_cell in grids:
        v, u = np.mgrid[:cells, :cells] + 0.5
        centres.append(np.repeat(np.stack([u, v], -1).reshape(-1, 2) / cells, anchors_per_cell, 0))
    return np.concatenate(centres)


def decode_boxes(
    offsets: Float[np.ndarray, "anchors 16"], centres: Float[np.ndarray, "anchors 2"], side: int
) -> Float[np.ndarray, "anchors 8 2"]:
    """Return the low and high corner and the six key points of each anchor's box, in shares of the input.

    Args:
        offsets: of the box's centre from the anchor's centre; then width and height; then offsets of the points from
            the anchor's centre. All are pixels of the input.
        centres: anchor centres, in shares of the input.
        side: side of the input, pixels.
    """
    values = offsets.reshape(-1, 8, 2).astype(np.float64) / side
    centre, half = values[:, 0] + centres, values[:, 1] / 2
    return np.concatenate([(centre - half)[:, None], (centre + half)[:, None], values[:, 2:] + centres[:, None]], 1)


def average_overlapping(
    corners: Float[np.ndarray, "boxes points 2"], scores: Float[np.ndarray, "boxes"]
) -> tuple[Float[np.ndarray, "faces points 2"], Float[np.ndarray, "faces"]]:
    """Average the boxes of each face: all that overlap the box with the highest score, weighted by score.

    Args:
        corners: low corner, high corner, and further points, which are averaged too.
        scores: scores of the boxes.

    Returns:
        Points and highest score of each face, highest score first.
    """
    remaining = np.argsort(-scores, kind="stable")
    points, best = [], []
    while len(remaining):
        same = box_overlap(corners[remaining[0]], corners[remaining]) > _SAME_FACE
        # A box without area does not overlap itself.
        same[0] = True
        points.append(np.average(corners[remaining[same]], axis=0, weights=scores[remaining[same]]))
        best.append(scores[remaining[0]])
        remaining = remaining[~same]
    return np.array(points).reshape(-1, *corners.shape[1:]), np.array(best)


def box_overlap(
    box: Float[np.ndarray, "points 2"], boxes: Float[np.ndarray, "boxes points 2"]
) -> Float[np.ndarray, "boxes"]:
    """Intersection over union of one box with others, each given by its low and high corner."""
    low, high = np.maximum(box[0], boxes[:, 0]), np.minimum(box[1], boxes[:, 1])
    shared = np.clip(high - low, 0, None).prod(-1)
    union = (box[1] - box[0]).prod() + (boxes[:, 1] - boxes[:, 0]).prod(-1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
