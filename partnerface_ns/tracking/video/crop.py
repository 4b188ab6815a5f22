"""The square crop that becomes the avatar's image.

The square has one size for the whole video, so that one focal length is valid. It stands still unless the face would
leave it, which keeps background and shoulders still; otherwise it follows the face smoothly. It contains the whole head
from hair to chin where the frame shows it and the square is large enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

_SIDE_IN_FACES = 3.4
"""Side of the square in heights of the face's box (brows to chin); leaves space for hair and shoulders."""
_FULL_SHARE = 0.8
"""A square above this share of the frame's shorter side is extended to all of it."""
_FACE_HEIGHT = 0.45
"""Distance of the face's centre from the upper side, as a share of the square."""
_MARGIN = 0.03
"""Clearance around the head, where the frame has it, as a share of the square."""
_TOLERANCE = 0.01
"""A head that leaves the square, or approaches the frame's border, by less than this share still counts as whole."""
_SMOOTHING_SECONDS = 1.5
_STILL_SHARE = 0.18
"""The square stands still if the face's centre moves by less than this share of its side."""


@dataclass(frozen=True)
class CropPath:
    """A square for each frame, in pixels of the upright frame."""

    side: float
    corners: Float[np.ndarray, "frames 2"]
    """Upper left corner (x, y) of each frame's square, whole pixels."""
    still: bool
    """Whether all corners are equal."""
    cut_off: Bool[np.ndarray, "frames"]
    """Whether the square, or the frame itself, cuts off a part of the head."""

    def scale(self, size: int) -> float:
        """Pixels of the cropped image for one pixel of the frame."""
        return size / self.side

    def cut(
        self, rgb: UInt8[np.ndarray, "rows columns channels"], index: int, size: int
    ) -> UInt8[np.ndarray, "size size channels"]:
        """Cut and resize the square of one frame, RGB or RGBA; alpha weights the colours of RGBA."""
        from PIL import Image

        x, y = self.corners[index]
        image = Image.fromarray(rgb)
        box = (float(x), float(y), float(x + self.side), float(y + self.side))
        if size == self.side:
            x, y, side = int(x), int(y), int(self.side)
            return np.asarray(image.crop((x, y, x + side, y + side)))
        filter_ = Image.Resampling.LANCZOS if size < self.side else Image.Resampling.BICUBIC
        return np.asarray(image.resize((size, size), filter_, box=box))


def plan_crop(
    boxes: Float[np.ndarray, "frames 4"],
    shape: tuple[int, int],
    fps: float,
    heads: Float[np.ndarray, "frames 4"] | None = None,
) -> CropPath:
    """Plan the square of every frame.

    Args:
        boxes: the face in each frame; NaN where it is not visible.
        shape: rows and columns of a frame.
        fps: frames per second, for the smoothing in time.
        heads: left, top, right and bottom of the head; NaN where it was not measured.
    """
    boxes_filled = _fill_gaps(boxes)
    centres = boxes_filled[:, :2] + boxes_filled[:, 2:] / 2
    low, high = _head_corners(boxes_filled, centres, heads)
    side = _square_side(boxes, low, high, min(shape))
    middle = (np.quantile(centres, 0.02, 0) + np.quantile(centres, 0.98, 0)) / 2
    still = bool((np.abs(centres - middle) < _STILL_SHARE * side).all(-1).mean() > 0.98)
    if still:
        path = np.broadcast_to(middle, centres.shape)
        held_low, held_high = np.quantile(low, 0.02, axis=0), np.quantile(high, 0.98, axis=0)
    else:
        path, held_low, held_high = (_smooth(values, _SMOOTHING_SECONDS * fps) for values in (centres, low, high))
    corners = _shift_to_contain(path - side * np.array([0.5, _FACE_HEIGHT]), side, held_low, held_high)
    frame = np.array([shape[1], shape[0]])
    corners = np.round(np.clip(corners, 0, frame - side))
    return CropPath(side, corners, still, _cut_off(corners, side, low, high, frame))


def _square_side(
    boxes: Float[np.ndarray, "frames 4"],
    low: Float[np.ndarray, "frames 2"],
    high: Float[np.ndarray, "frames 2"],
    shorter: int,
) -> float:
    """Side of the square for a face and its head, in a frame with a given shorter side; whole pixels."""
    head = np.quantile(high - low, 0.9, axis=0).max() * (1 + 2 * _MARGIN)
    side = float(np.round(max(_SIDE_IN_FACES * np.nanquantile(boxes[:, 3], 0.9), head)))
    return float(shorter) if side > _FULL_SHARE * shorter else side


def _head_corners(
    boxes: Float[np.ndarray, "frames 4"],
    centres: Float[np.ndarray, "frames 2"],
    heads: Float[np.ndarray, "frames 4"] | None,
) -> tuple[Float[np.ndarray, "frames 2"], Float[np.ndarray, "frames 2"]]:
    """Upper left and lower right corner of the head in every frame; of the face if no head was measured."""
    if heads is None or np.isnan(heads).any(1).all():
        return boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    middle, size = np.tile(centres, 2), boxes[:, 3:]
    edges = middle + _fill_gaps((heads - middle) / size) * size
    return edges[:, :2], edges[:, 2:]


def _shift_to_contain(
    corners: Float[np.ndarray, "frames 2"],
    side: float,
    low: Float[np.ndarray, "*frames 2"],
    high: Float[np.ndarray, "*frames 2"],
) -> Float[np.ndarray, "frames 2"]:
    """Shift the corners as little as possible so that the squares contain a rectangle; centre one that is too large."""
    margin = np.clip((side - (high - low)) / 2, 0, _MARGIN * side)
    lowest, highest = high + margin - side, low - margin
    clipped = np.clip(corners, lowest, np.maximum(lowest, highest))
    return np.where(lowest <= highest, clipped, (lowest + highest) / 2)


def _cut_off(
    corners: Float[np.ndarray, "frames 2"],
    side: float,
    low: Float[np.ndarray, "frames 2"],
    high: Float[np.ndarray, "frames 2"],
    frame: Int[np.ndarray, "2"],
) -> Bool[np.ndarray, "frames"]:
    """Whether square or frame cut off the head. The frame's lower border does not count: it cuts the chest."""
    tolerance = _TOLERANCE * side
    beyond = (low < corners - tolerance) | (high > corners + side + tolerance)
    at_border = (low < tolerance) | ((high > frame - tolerance) & np.array([True, False]))
    return (beyond | at_border).any(1)


def _fill_gaps(values: Float[np.ndarray, "frames channels"]) -> Float[np.ndarray, "frames channels"]:
    """Interpolate NaN rows in time."""
    index = np.arange(len(values))
    known = ~np.isnan(values[:, 0])
    return np.stack([np.interp(index, index[known], values[known, k]) for k in range(values.shape[1])], -1)


def _smooth(values: Float[np.ndarray, "frames channels"], sigma: float) -> Float[np.ndarray, "frames channels"]:
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(values, max(sigma, 1e-3), axis=0, mode="nearest")
