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
    from scipy.ndimage import gaussian_filter

    size = min(DETAIL_SIZE, len(rgb))
    px = size / 256
    brightness = _shrink(rgb.astype(np.float32) @ _LUMINANCE, size)
    share = _shrink(matte.astype(np.float32) / 255, size)

    def blur(values: Float[np.ndarray, "size size"], sigma: float) -> Float[np.ndarray, "size size"]:
        return np.asarray(gaussian_filter(values, sigma * px, truncate=3.0))

    fine, wide = (
        blur(brightness * share, sigma) / np.maximum(blur(share, sigma), _MIN_SHARE)
        for sigma in (level.fine, level.wide)
    )
    return np.where(share > _MIN_SHARE, fine - wide, 0).astype(np.float32)


def _shrink(values: Float[np.ndarray, "rows columns"], size: int) -> Float[np.ndarray, "size size"]:
    """Scale a square image down to a side by the mean over each pixel's area."""
    if len(values) == size:
        return values
    return np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BOX))


class DetailImages:
    """The detail images of all frames at one level, in a file, so that memory does not grow with the video."""

    def __init__(self, path: Path, read: ReadFrame, num: int, size: int, level: Level) -> None:
        """
        Args:
            path: the file, which is overwritten.
            read: reads a frame by its position among the fitted frames.
            num: number of frames.
            size: side of the frames, pixels.
            level: the blurs.
        """
        self.size = min(DETAIL_SIZE, size)
        self._scale = self.size / size
        shape = (num, self.size, self.size)
        self._values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        for index in range(num):
            self._values[index] = detail_image(*read(index), level)

    def sample(
        self, chunk: slice, pixels: Float[Tensor, "frames points 2"]
    ) -> tuple[Float[Tensor, "frames points"], Float[Tensor, "frames points 2"]]:
        """Return values and their derivatives with respect to the pixels; both are 0 outside the image.

        Args:
            chunk: the frames.
            pixels: positions in the frames, x right and y down.
        """
        values = torch.from_numpy(np.asarray(self._values[chunk], dtype=np.float32))
        channels = torch.stack([values, *reversed(torch.gradient(values, dim=(1, 2)))], 1).to(pixels.device)
        places = (2 * self._scale / self.size) * pixels[:, None] - 1
        sampled = torch.nn.functional.grid_sample(channels, places, align_corners=False)[:, :, 0]
        return sampled[:, 0], self._scale * sampled[:, 1:].mT
