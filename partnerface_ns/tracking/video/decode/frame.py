"""One frame of a video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import UInt8

FOLDER_FPS = 25.0
"""Frame rate of an image folder, and of a video that does not state one."""

Note: TypeAlias = Callable[[str], None]
"""Receives one sentence for the user about what was inferred, converted or left out."""


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a video, upright, with square pixels and BT.709 colours."""

    time: float
    """Seconds from the first frame of the file."""
    rgb: UInt8[np.ndarray, "rows columns 3"]
    """Colours, white where `alpha` is 0."""
    alpha: UInt8[np.ndarray, "rows columns"] | None = None
    """Opacity; None if the file has none, or if it is the same in all pixels."""

    @staticmethod
    def from_pixels(time: float, pixels: UInt8[np.ndarray, "rows columns channels"]) -> VideoFrame:
        """Make a frame from RGB or RGBA pixels; fully transparent pixels become white."""
        rgb, alpha = np.ascontiguousarray(pixels[..., :3]), pixels[..., 3:]
        if alpha.size == 0 or alpha.min() == alpha.max():
            return VideoFrame(time, rgb)
        alpha = np.ascontiguousarray(alpha[..., 0])
        rgb[alpha == 0] = 255
        return VideoFrame(time, rgb, alpha)
