"""The background of a fixed camera, collected from the frames in which the person does not cover it.

Each pixel of the plate has the mean and the covariance of the colours that it showed over time. Where the camera moves
or the light changes, the covariance is large, and the plate says no more than the surroundings of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from partnerface_ns.tracking.video.colour_matting import FIRST, SECOND, Colours
from partnerface_ns.tracking.video.packages import require

_MIN_FRAMES = 4
"""Frames that must show the background at a pixel."""
_MAX_AREA = 9
"""Largest area of a plate, in images. If the square moves farther through the frame, there is no plate."""


@dataclass(frozen=True)
class Background:
    """The background of one image, as far as it is known."""

    known: Bool[np.ndarray, "rows columns"]
    colours: Colours
    """Of each pixel."""

    def half(self) -> Background:
        """The background at half the size."""
        return Background(self.known[::2, ::2], self.colours[::2, ::2])


class BackgroundPlate:
    """Sums over the frames, in pixels of the images. The square may move through the video's frame."""

    def __init__(self, corners: Float[np.ndarray, "frames 2"], size: int) -> None:
        """
        Args:
            corners: upper left corner (x, y) of each frame's square, pixels of the images.
            size: side of the images.
        """
        self._shifts, self._size = corners - corners.min(0), size
        columns, rows = size + np.ceil(self._shifts.max(0)).astype(int)
        self._sums = np.zeros((rows, columns, 10)) if rows * columns <= _MAX_AREA * size**2 else None

    def add(self, index: int, rgb: UInt8[np.ndarray, "size size 3"], background: Bool[np.ndarray, "size size"]) -> None:
        """Add the pixels of a frame that surely show the background."""
        if self._sums is None:
            return
        image, seen = rgb.astype(np.float32) / 255, background.astype(np.float32)[..., None]
        image *= seen
        values = np.concatenate([seen, image, image[..., FIRST] * image[..., SECOND]], -1)
        rows, columns, _ = self._sums.shape
        self._sums += _move(values, self._shifts[index], (columns, rows))

    def background(self, index: int) -> Background | None:
        """The background of a frame; None if there is no plate."""
        if self._sums is None:
            return None
        sums = _move(self._sums, -self._shifts[index], (self._size, self._size)).astype(np.float32)
        moments = sums[..., 1:] / np.maximum(sums[..., :1], 1e-6)
        mean = moments[..., :3]
        covariance = moments[..., 3:] - mean[..., FIRST] * mean[..., SECOND]
        return Background(sums[..., 0] >= _MIN_FRAMES, Colours(mean, covariance))


def _move(
    values: Float[np.ndarray, "rows columns channels"], shift: Float[np.ndarray, "2"], size: tuple[int, int]
) -> Float[np.ndarray, "new_rows new_columns channels"]:
    """Move by a shift (x, y), bilinearly, into an array of another size (columns, rows)."""
    if not shift.any() and values.shape[1::-1] == size:
        return values
    matrix = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
    channels = [np.ascontiguousarray(values[..., k]) for k in range(values.shape[-1])]
    return np.stack([require("cv2").warpAffine(channel, matrix, size) for channel in channels], -1)
