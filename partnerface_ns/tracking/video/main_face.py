"""The main face of a video: the large and steady one among all faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from partnerface_ns.tracking.video.boxes import SAME_CONTAINMENT, containment, overlap
from partnerface_ns.tracking.video.interfaces import Box

_MAX_GAP = 20
"""Frames without a detection after which a face starts a new path."""
_MIN_DURATION = 6
"""Frames that another face must last to be counted. Other faces are seen only in searches of the whole frame."""
_LINKED_OVERLAP = 0.2
"""Intersection over union from which boxes of successive frames show one face that moved."""
_MAX_SIZE_RATIO = 1.7
"""Largest ratio of sizes at which a path counts as the same face coming back."""


@dataclass(frozen=True)
class MainFace:
    """The face that is tracked."""

    boxes: Float[np.ndarray, "frames 4"]
    """NaN where the face is not visible."""
    num_others: int
    """Number of other faces."""


@dataclass
class _Path:
    """A face followed from frame to frame."""

    frames: list[int]
    boxes: list[Box]

    @property
    def size(self) -> float:
        """Median width."""
        return float(np.median([box[2] for box in self.boxes]))


def choose_main_face(faces: list[list[Box]]) -> MainFace:
    """Choose the large and steady face.

    Boxes are linked to paths over time. The path with the largest sum of widths is the main face. Other paths of
    similar size, in frames where the main face is not visible, are the same face coming back.

    Args:
        faces: the boxes in each frame.
    """
    paths = _link_boxes(faces)
    boxes = np.full((len(faces), 4), np.nan)
    num_others = 0
    paths.sort(key=lambda path: -path.size * len(path.frames))
    for path in paths:
        free = np.isnan(boxes[path.frames, 0])
        ratio = path.size / paths[0].size
        if free.all() and 1 / _MAX_SIZE_RATIO < ratio < _MAX_SIZE_RATIO:
            boxes[path.frames] = path.boxes
        elif path.frames[-1] - path.frames[0] >= _MIN_DURATION:
            num_others += 1
    return MainFace(boxes, num_others)


def _link_boxes(faces: list[list[Box]]) -> list[_Path]:
    """Extend the path that overlaps a box most, or start a new one; larger boxes first."""
    done: list[_Path] = []
    active: list[_Path] = []
    for index, boxes in enumerate(faces):
        done += [path for path in active if index - path.frames[-1] > _MAX_GAP]
        active = [path for path in active if index - path.frames[-1] <= _MAX_GAP]
        for box in sorted(boxes, key=lambda box: -box[2]):
            free = [path for path in active if path.frames[-1] < index]
            linked = [path for path in free if _are_linked(path.boxes[-1], box)]
            if linked:
                best = max(linked, key=lambda path: overlap(path.boxes[-1], box))
                best.frames.append(index)
                best.boxes.append(box)
            else:
                active.append(_Path([index], [box]))
    return done + active


def _are_linked(a: Box, b: Box) -> bool:
    """Whether boxes of successive frames show one face that moved, or whose box changed its size."""
    return overlap(a, b) > _LINKED_OVERLAP or containment(a, b) > SAME_CONTAINMENT
