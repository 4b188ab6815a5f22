"""The square part of the video that becomes the avatar's image.

The square has one size for the whole video, so that one focal length holds, and it stands still unless the face
would leave it: a camera that rests lets the background and the shoulders rest. Where the face moves far the centre
follows it smoothly. The whole head, hair to chin, is in the square where the frame has it and it fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

_SIZE_IN_FACES = 3.4
"""Side of the square in heights of the face's box (brows to chin), enough for hair and shoulders."""
_NEARLY_ALL = 0.8
"""Above this share of the frame's shorter side the square takes all of it."""
_FACE_PLACE = 0.45
"""Where the face's centre rests, as a share of the square from its top."""
_MARGIN = 0.03
"""Capacity around the head where there is some, as a share of the square."""
_TOUCHES = 0.01
"""Share of the square by which a head may leave it, or come near the frame's border, and count as whole."""
_SMOOTHING_SECONDS = 1.5
_STILL_SHARE = 0.18
"""The square stands still if the face's centre stays within this share of its side."""


@dataclass(frozen=True)
class CropPath:
    """A square for each frame, in pixels of the upright frame."""

    side: float
    corners: Float[np.ndarray, "frames 2"]
    """Top left corner (x, y) of each frame's square; whole pixels."""
    still: bool
    """Whether the square stands still."""
    cut_off: Bool[np.ndarray, "frames"]
    """Whether the head is not whole in a frame's square: the square, or the frame itself, cuts it."""

    def scale(self, size: int) -> float:
        """Pixels of the result for one pixel of the frame."""
        return size / self.side

    def cut(
        self, rgb: UInt8[np.ndarray, "rows columns channels"], index: int, size: int
    ) -> UInt8[np.ndarray, "size size channels"]:
        """The square of one frame, RGB or RGBA, resized; colours of RGBA are weighed by alpha."""
        from PIL import Image

        x, y = self.corners[index]
        image = Image.fromarray(rgb)
        box = (float(x), float(y), float(x + self.side), float(y + self.side))
        if size == self.side:
            return np.asarray(image.crop(tuple(map(int, box))))
        filter_ = Image.Resampling.LANCZOS if size < self.side else Image.Resampling.BICUBIC
        return np.asarray(image.resize((size, size), filter_, box=box))


def plan_crop(
    boxes: Float[np.ndarray, "frames 4"],
    shape: tuple[int, int],
    fps: float,
    heads: Float[np.ndarray, "frames 4"] | None = None,
) -> CropPath:
    """The square's path for a face.

    Args:
        boxes: the face in each frame, NaN where it is not seen.
        shape: rows and columns of a frame.
        fps: frames a second, for the smoothing in time.
        heads: left, top, right and bottom of the head, NaN where they were not measured.
    """
    boxes_filled = _fill_gaps(boxes)
    centres = boxes_filled[:, :2] + boxes_filled[:, 2:] / 2
    low, high = _heads(boxes_filled, centres, heads)
    shorter = min(shape)
    head = np.quantile(high - low, 0.9, axis=0).max() * (1 + 2 * _MARGIN)
    side = float(np.round(max(_SIZE_IN_FACES * np.nanquantile(boxes[:, 3], 0.9), head)))
    side = float(shorter) if side > _NEARLY_ALL * shorter else side
    middle = (np.quantile(centres, 0.02, 0) + np.quantile(centres, 0.98, 0)) / 2
    still = bool((np.abs(centres - middle) < _STILL_SHARE * side).all(-1).mean() > 0.98)
    path = np.broadcast_to(middle, centres.shape) if still else _smooth(centres, _SMOOTHING_SECONDS * fps)
    if still:
        held_low, held_high = np.quantile(low, 0.02, axis=0), np.quantile(high, 0.98, axis=0)
    else:
        held_low, held_high = (_smooth(edge, _SMOOTHING_SECONDS * fps) for edge in (low, high))
    corners = _holding(path - side * np.array([0.5, _FACE_PLACE]), side, held_low, held_high)
    frame = np.array([shape[1], shape[0]])
    corners = np.round(np.clip(corners, 0, frame - side))
    return CropPath(side, corners, still, _cut_off(corners, side, low, high, frame))


def _heads(
    boxes: np.ndarray, centres: np.ndarray, heads: np.ndarray | None
) -> tuple[Float[np.ndarray, "frames 2"], Float[np.ndarray, "frames 2"]]:
    """Top left and bottom right of the head in every frame; the face alone where no head was measured."""
    if heads is None or np.isnan(heads).any(1).all():
        return boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    place, size = np.tile(centres, 2), boxes[:, 3:]
    edges = place + _fill_gaps((heads - place) / size) * size
    return edges[:, :2], edges[:, 2:]


def _holding(corners: np.ndarray, side: float, low: np.ndarray, high: np.ndarray) -> Float[np.ndarray, "frames 2"]:
    """Corners moved as little as needed so that the square holds what lies between two points; else its middle."""
    margin = np.clip((side - (high - low)) / 2, 0, _MARGIN * side)
    least, most = high + margin - side, low - margin
    return np.where(least <= most, np.clip(corners, least, np.maximum(least, most)), (least + most) / 2)


def _cut_off(corners: np.ndarray, side: float, low: np.ndarray, high: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Whether the head is not whole in each square. At the frame's lower border there is the chest, not the head."""
    slack = _TOUCHES * side
    beyond = (low < corners - slack) | (high > corners + side + slack)
    at_border = (low < slack) | ((high > frame - slack) & np.array([True, False]))
    return (beyond | at_border).any(1)


def _fill_gaps(values: np.ndarray) -> np.ndarray:
    index = np.arange(len(values))
    seen = ~np.isnan(values[:, 0])
    return np.stack([np.interp(index, index[seen], values[seen, k]) for k in range(values.shape[1])], -1)


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(values, max(sigma, 1e-3), axis=0, mode="nearest")
