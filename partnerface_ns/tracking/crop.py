"""The square part of the video that becomes the avatar's picture.

The square has one size for the whole video, so that one focal length holds, and it stands still unless the face
would leave it: a camera that rests lets the background and the shoulders rest. Where the face moves far the centre
follows it smoothly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

_SIZE_IN_FACES = 3.4
"""Side of the square in heights of the face's box (brows to chin), enough for hair and shoulders."""
_NEARLY_ALL = 0.8
"""Above this share of the frame's shorter side the square takes all of it."""
_FACE_PLACE = 0.45
"""Where the face's centre rests, as a share of the square from its top."""
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


def plan_crop(boxes: Float[np.ndarray, "frames 4"], shape: tuple[int, int], fps: float) -> CropPath:
    """The square's path for a face.

    Args:
        boxes: the face in each frame, NaN where it is not seen.
        shape: rows and columns of a frame.
        fps: frames a second, for the smoothing in time.
    """
    shorter = min(shape)
    side = float(np.round(_SIZE_IN_FACES * np.nanquantile(boxes[:, 3], 0.9)))
    side = float(shorter) if side > _NEARLY_ALL * shorter else side
    centres = _fill_gaps(boxes[:, :2] + boxes[:, 2:] / 2)
    middle = (np.nanquantile(centres, 0.02, 0) + np.nanquantile(centres, 0.98, 0)) / 2
    still = bool((np.abs(centres - middle) < _STILL_SHARE * side).all(-1).mean() > 0.98)
    path = np.broadcast_to(middle, centres.shape) if still else _smooth(centres, _SMOOTHING_SECONDS * fps)
    corners = path - side * np.array([0.5, _FACE_PLACE])
    limit = np.array([shape[1] - side, shape[0] - side])
    return CropPath(side, np.round(np.clip(corners, 0, limit)), still)


def _fill_gaps(values: np.ndarray) -> np.ndarray:
    index = np.arange(len(values))
    seen = ~np.isnan(values[:, 0])
    return np.stack([np.interp(index, index[seen], values[seen, k]) for k in range(values.shape[1])], -1)


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(values, max(sigma, 1e-3), axis=0, mode="nearest")
