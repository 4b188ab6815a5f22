"""The default face detector: BlazeFace on windows of the frame.

It searches around the face of the last frame first, then the whole frame, then overlapping tiles, in which small faces
of a large frame are big enough.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from partnerface_ns.tracking.video.boxes import ScoredBox, suppress_duplicates
from partnerface_ns.tracking.video.interfaces import Box
from partnerface_ns.tracking.video.networks.blazeface import FULL_RANGE, SHORT_RANGE, BlazeFace

_NEIGHBOURHOOD = 4.0
"""Side of the square that is searched around the last face, in widths of its box."""
_SCAN_INTERVAL = 15
"""Frames between two searches of the whole frame while a face is followed."""


class BlazeFaceDetector:
    """Finds all faces in successive frames (a `FaceDetector`)."""

    def __init__(self) -> None:
        # The short-range network sees near faces. The other also sees faces of a tenth of the image, with more errors.
        self._networks = [BlazeFace(SHORT_RANGE, min_score=0.5), BlazeFace(FULL_RANGE, min_score=0.6)]
        self._last: Box | None = None
        self._frames_since_scan = _SCAN_INTERVAL

    def __call__(self, rgb: UInt8[np.ndarray, "rows columns 3"], /) -> list[Box]:
        """Return the boxes of all faces, largest first."""
        detections: list[ScoredBox] = []
        if self._last is not None:
            detections = self._search(rgb, _window_around(self._last, rgb.shape))
        self._frames_since_scan += 1
        if not detections or self._frames_since_scan >= _SCAN_INTERVAL:
            detections += self._scan(rgb)
            self._frames_since_scan = 0
        boxes = sorted(suppress_duplicates(detections), key=lambda box: -box[2])
        self._last = boxes[0] if boxes else None
        return boxes

    def _scan(self, rgb: UInt8[np.ndarray, "rows columns 3"]) -> list[ScoredBox]:
        """Search the whole frame, then larger and smaller tiles until there is a face."""
        rows, columns = rgb.shape[:2]
        detections = self._search(rgb, (0, 0, columns, rows), all_networks=True)
        for share in (1.0, 0.5):
            if detections:
                break
            side = int(min(rows, columns) * share)
            for y in _tile_starts(rows, side):
                for x in _tile_starts(columns, side):
                    detections += self._search(rgb, (x, y, side, side))
        return detections

    def _search(
        self, rgb: UInt8[np.ndarray, "rows columns 3"], window: tuple[int, int, int, int], all_networks: bool = False
    ) -> list[ScoredBox]:
        """Faces in a window (left, top, width, height): of the first network that sees any, or of all networks."""
        x, y, width, height = window
        part = np.ascontiguousarray(rgb[y : y + height, x : x + width])
        detections: list[ScoredBox] = []
        for network in self._networks:
            faces = network(part)
            for score, (left, top, right, bottom) in zip(faces.scores, faces.boxes, strict=True):
                detections.append((float(score), np.array([x + left, y + top, right - left, bottom - top])))
            if detections and not all_networks:
                break
        return detections


def _window_around(box: Box, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    side = min(_NEIGHBOURHOOD * float(box[2:].max()), *map(float, shape[:2]))
    x = float(np.clip(box[0] + box[2] / 2 - side / 2, 0, shape[1] - side))
    y = float(np.clip(box[1] + box[3] / 2 - side / 2, 0, shape[0] - side))
    return int(x), int(y), int(side), int(side)


def _tile_starts(length: int, side: int) -> list[int]:
    """Starts of tiles that cover a length and overlap by half."""
    count = max(1, int(np.ceil((length - side) / (side / 2))) + 1)
    return [int(start) for start in np.linspace(0, length - side, count)]
