"""Where the faces are in each frame, and which of them is the subject.

A box is (x, y, width, height) in pixels of the frame, around brows to chin. Detection looks near the last face first,
then at the whole frame, then, for faces that are small in a large frame, at overlapping tiles of it. The subject is
the face that is large and steady over the video; others are counted so that the user can be told.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from partnerface_ns.tracking.networks.face_detector import FULL_RANGE, SHORT_RANGE, FaceDetector

Box = Float[np.ndarray, "4"]
_Scored = tuple[float, np.ndarray]
"""The detector's score, 0 to 1, and a box."""

_NEIGHBOURHOOD = 4.0
"""Side of the square searched around the last face, in widths of it."""
_SCAN_EVERY = 15
"""Frames between two looks at the whole frame while a face is being followed."""
_MAX_GAP = 20
"""Frames after which a face that was lost starts a new path."""
_MOMENT = 6
"""Frames that another face must last to be told of; it is seen only in looks at the whole frame."""
_SAME_OVERLAP, _SAME_INSIDE = 0.3, 0.6
"""Two boxes in one frame are one face from this intersection over union, or over the smaller of them."""
_LINKED_OVERLAP = 0.2
"""Intersection over union from which boxes of successive frames are one face that moved."""
_MAX_SIZE_RATIO = 1.7
"""A path counts as the same face coming back if its size is within this ratio."""


class FaceFinder:
    """Finds all faces of one frame after the other. Close it, or use it in a `with` statement."""

    def __init__(self) -> None:
        # One model sees faces near the camera, the other faces that are a tenth of the image; it is sooner mistaken.
        self._models = [FaceDetector(SHORT_RANGE, min_score=0.5), FaceDetector(FULL_RANGE, min_score=0.6)]
        self._last: np.ndarray | None = None
        self._since_scan = _SCAN_EVERY

    def __enter__(self) -> FaceFinder:
        return self

    def __exit__(self, *exception: object) -> None:
        self._models.clear()

    def __call__(self, rgb: UInt8[np.ndarray, "rows columns 3"]) -> list[Box]:
        """All faces found, largest first."""
        found: list[_Scored] = []
        if self._last is not None:
            found = self._look(rgb, _around(self._last, rgb.shape))
        self._since_scan += 1
        if not found or self._since_scan >= _SCAN_EVERY:
            found += self._scan(rgb)
            self._since_scan = 0
        boxes = sorted(one_box_a_face(found), key=lambda b: -b[2])
        self._last = boxes[0] if boxes else None
        return boxes

    def _scan(self, rgb: np.ndarray) -> list[_Scored]:
        rows, columns = rgb.shape[:2]
        whole = self._look(rgb, (0, 0, columns, rows), both=True)
        if whole:
            return whole
        found: list[_Scored] = []
        for share in (1.0, 0.5):
            side = int(min(rows, columns) * share)
            for y in _starts(rows, side):
                for x in _starts(columns, side):
                    found += self._look(rgb, (x, y, side, side))
            if found:
                break
        return found

    def _look(self, rgb: np.ndarray, window: tuple[int, int, int, int], both: bool = False) -> list[_Scored]:
        """Faces in a part of the frame: of the first model that finds any, or of both."""
        x, y, width, height = window
        part = np.ascontiguousarray(rgb[y : y + height, x : x + width])
        found: list[_Scored] = []
        for model in self._models:
            detections = model(part)
            for score, (left, top, right, low) in zip(detections.scores, detections.boxes, strict=True):
                found.append((float(score), np.array([x + left, y + top, right - left, low - top])))
            if found and not both:
                break
        return found


def _around(box: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    side = min(_NEIGHBOURHOOD * float(box[2:].max()), *map(float, shape[:2]))
    x = float(np.clip(box[0] + box[2] / 2 - side / 2, 0, shape[1] - side))
    y = float(np.clip(box[1] + box[3] / 2 - side / 2, 0, shape[0] - side))
    return int(x), int(y), int(side), int(side)


def _starts(length: int, side: int) -> list[int]:
    """Starts of windows that cover a length and overlap by half."""
    count = max(1, int(np.ceil((length - side) / (side / 2))) + 1)
    return [int(s) for s in np.linspace(0, length - side, count)]


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    shared = _shared(a, b)
    return shared / (float(a[2] * a[3] + b[2] * b[3]) - shared + 1e-9)


def inside(a: Box, b: Box) -> float:
    """Intersection of two boxes over the smaller of them: 1 where one lies in the other."""
    return _shared(a, b) / (float(min(a[2] * a[3], b[2] * b[3])) + 1e-9)


def _shared(a: Box, b: Box) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    return float(np.prod(np.clip(high - low, 0, None)))


def one_box_a_face(found: list[_Scored]) -> list[Box]:
    """The box with the highest score of each face that was found more than once."""
    kept: list[np.ndarray] = []
    for _, box in sorted(found, key=lambda f: -f[0]):
        if all(overlap(box, other) < _SAME_OVERLAP and inside(box, other) < _SAME_INSIDE for other in kept):
            kept.append(box)
    return kept


@dataclass
class _Path:
    frames: list[int]
    boxes: list[np.ndarray]

    @property
    def size(self) -> float:
        return float(np.median([b[2] for b in self.boxes]))


@dataclass(frozen=True)
class Subject:
    """The face that the avatar is made of."""

    boxes: Float[np.ndarray, "frames 4"]
    """NaN where the face is not seen."""
    num_others: int
    """Other faces that were seen for more than a moment."""


def choose_subject(faces: list[list[Box]]) -> Subject:
    """The large, steady face among the faces of all frames.

    Boxes are linked to paths over time; the path with the largest sum of sizes is the subject, and later or earlier
    paths of about its size, where it is not seen itself, are the same face coming back.

    Args:
        faces: boxes found in each frame.
    """
    paths = _link(faces)
    boxes = np.full((len(faces), 4), np.nan)
    others = 0
    paths.sort(key=lambda p: -p.size * len(p.frames))
    for path in paths:
        free = np.isnan(boxes[path.frames, 0])
        ratio = path.size / paths[0].size
        if free.all() and 1 / _MAX_SIZE_RATIO < ratio < _MAX_SIZE_RATIO:
            boxes[path.frames] = path.boxes
        elif path.frames[-1] - path.frames[0] >= _MOMENT:
            others += 1
    return Subject(boxes, others)


def _link(faces: list[list[np.ndarray]]) -> list[_Path]:
    done: list[_Path] = []
    active: list[_Path] = []
    for index, boxes in enumerate(faces):
        done += [p for p in active if index - p.frames[-1] > _MAX_GAP]
        active = [p for p in active if index - p.frames[-1] <= _MAX_GAP]
        for box in sorted(boxes, key=lambda b: -b[2]):
            open_paths = [p for p in active if p.frames[-1] < index]
            linked = [p for p in open_paths if _linked(p.boxes[-1], box)]
            best = max(linked, key=lambda p: overlap(p.boxes[-1], box), default=None)
            if best is not None:
                best.frames.append(index)
                best.boxes.append(box)
            else:
                active.append(_Path([index], [box]))
    return done + active


def _linked(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether boxes of successive frames are one face: it moved, or was found larger or smaller at the same place."""
    return overlap(a, b) > _LINKED_OVERLAP or inside(a, b) > _SAME_INSIDE
