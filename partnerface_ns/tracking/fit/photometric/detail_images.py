"""Detail images: the brightness of the person without slow shading and without the background.

A detail image is a difference of two Gaussian blurs of the brightness. Both are normalised by the blurred matte, so the
background has no influence. Detail images have at most 256 pixels a side, because a blur of 0.7 pixels at this size
keeps everything that the alignment needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

DETAIL_SIZE = 256
"""Largest side of a detail image, pixels."""
_MIN_SHARE = 0.02
"""Blurred mattes below this share count as background."""
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)

ReadFrame = Callable[[int], tuple[UInt8[np.ndarray, "rows columns 3"], UInt8[np.ndarray, "rows columns"]]]
"""Reads the image and the matte (0 to 255) of a frame."""


@dataclass(frozen=True)
class Level:
    """The two blurs of a detail image: standard deviations in pixels at a side of 256."""

    fine: float
    wide: float


def detail_image(
    rgb: UInt8[np.ndarray, "rows columns 3"], matte: UInt8[np.ndarray, "rows columns"], level: Level
) -> Float[np.ndarray, "size size"]:
    """Return the detail image of a square image, 0 on the background; brightness is from 0 to 255."""
    size = min(DETAIL_SIZE, len(rgb))
    px = size / DETAIL_SIZE
    brightness = _resize(rgb.astype(np.float32) @ _LUMINANCE, size)
    share = _resize(matte.astype(np.float32) / 255, size)
    fine, wide = (
        _blur(brightness * share, sigma * px) / np.maximum(_blur(share, sigma * px), _MIN_SHARE)
        for sigma in (level.fine, level.wide)
    )
    return np.where(share > _MIN_SHARE, fine - wide, 0).astype(np.float32)


def matte_frame(
    matte: UInt8[np.ndarray, "rows columns"],
) -> tuple[UInt8[np.ndarray, "rows columns 3"], UInt8[np.ndarray, "rows columns"]]:
    """A frame that shows the matte as brightness, without a background. Its detail image has edges at the outline."""
    return np.repeat(matte[..., None], 3, axis=-1), np.full_like(matte, 255)


def _blur(values: Float[np.ndarray, "size size"], sigma: float) -> Float[np.ndarray, "size size"]:
    """Blur a square image by a Gaussian; wide ones are computed at a lower resolution."""
    from scipy.ndimage import gaussian_filter

    size, factor = len(values), 1
    while sigma / factor >= 4 and size // factor >= 32:
        factor *= 2
    small = np.asarray(gaussian_filter(_resize(values, size // factor), sigma / factor, truncate=3.0))
    return _resize(small, size)


def _resize(values: Float[np.ndarray, "rows columns"], size: int) -> Float[np.ndarray, "size size"]:
    """Scale a square image to a side: down by the mean over each pixel's area, up bilinearly."""
    if len(values) == size:
        return values
    method = Image.Resampling.BOX if size < len(values) else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(values).resize((size, size), method))


class DetailImages:
    """The detail images of all frames at all levels, in a file, so that memory does not grow with the video."""

    def __init__(self, path: Path, read: ReadFrame, num: int, size: int, levels: tuple[Level, ...]) -> None:
        """
        Args:
            path: the file, which is overwritten.
            read: reads a frame by its position among the fitted frames.
            num: number of frames.
            size: side of the frames, pixels.
            levels: the blurs.
        """
        self.size = min(DETAIL_SIZE, size)
        self._scale = self.size / size
        shape = (len(levels), num, self.size, self.size)
        self._values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        for index in range(num):
            frame = read(index)
            for number, level in enumerate(levels):
                self._values[number, index] = detail_image(*frame, level)

    def sample(
        self, level: int, chunk: slice | Tensor, pixels: Float[Tensor, "frames points 2"]
    ) -> Float[Tensor, "frames points"]:
        """Return the values at pixels of the frames (x right, y down); 0 outside the image."""
        # numpy takes a tensor with one element for a number, which drops the axis of frames.
        frames = chunk if isinstance(chunk, slice) else chunk.numpy()
        values = torch.from_numpy(np.asarray(self._values[level, frames], dtype=np.float32))[:, None]
        places = (2 * self._scale / self.size) * pixels[:, None] - 1
        return torch.nn.functional.grid_sample(values, places, align_corners=False)[:, 0, 0]

    def sample_with_slope(
        self, level: int, chunk: slice | Tensor, pixels: Float[Tensor, "frames points 2"]
    ) -> tuple[Float[Tensor, "frames points"], Float[Tensor, "frames points 2"]]:
        """Return values as `sample`, and their derivatives with respect to the pixels (central differences)."""
        step = 1 / self._scale
        moves = step * torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        places = (pixels[:, None] + moves[:, None]).flatten(1, 2)
        centre, right, left, down, up = self.sample(level, chunk, places).unflatten(1, (5, -1)).unbind(1)
        return centre, torch.stack([right - left, down - up], -1) / (2 * step)
