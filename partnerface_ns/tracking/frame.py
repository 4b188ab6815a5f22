"""One frame of a video, and the packages that reading and tracking need."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import UInt8

from partnerface_ns.common.errors import InputError

INSTALL_HINT = "pip install 'partnerface[track]'"
FOLDER_FPS = 25.0
"""Frames a second of a folder of images, and of a video that does not say."""

Note: TypeAlias = Callable[[str], None]
"""Takes one sentence for the user about what was inferred, converted or left out."""


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a video, upright, with square pixels and BT.709 colours."""

    time: float
    """Seconds from the first frame of the file."""
    rgb: UInt8[np.ndarray, "rows columns 3"]
    """Colours, white where `alpha` is 0."""
    alpha: UInt8[np.ndarray, "rows columns"] | None = None
    """Opacity; None where the file has none, or the same in all pixels."""

    @staticmethod
    def of(time: float, pixels: UInt8[np.ndarray, "rows columns channels"]) -> VideoFrame:
        """A frame from RGB or RGBA pixels; the colours of fully transparent pixels are dropped."""
        rgb, alpha = np.ascontiguousarray(pixels[..., :3]), pixels[..., 3:]
        if alpha.size == 0 or alpha.min() == alpha.max():
            return VideoFrame(time, rgb)
        alpha = np.ascontiguousarray(alpha[..., 0])
        rgb[alpha == 0] = 255
        return VideoFrame(time, rgb, alpha)


def require(module: str) -> Any:
    """Import a module of the `track` extra.

    Raises:
        InputError: it is not installed; names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(module, "tracking needs this package", found=error, hint=INSTALL_HINT) from error
