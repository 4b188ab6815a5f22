"""Search for one scale and shift of all silhouettes that makes them fit the masks.

A fit means that the images were cropped or resized after tracking. The shift is found by correlation in the Fourier
domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from partnerface_ns.capture.overlap import median_overlap

_SCALES = (0.5, 2 / 3, 0.8, 1.0, 1.25, 1.5, 2.0)


class ImageCrop(NamedTuple):
    """A scale and shift of the head in the image, and how well it fits then."""

    union: float
    """Median overlap with the masks: intersection over union."""
    scale: float
    shift: tuple[float, float]
    """To the right and down, as shares of the image's longer side."""


def find_crop(heads: Sequence[Bool[np.ndarray, "h w"]], masks: Sequence[Bool[np.ndarray, "h w"]]) -> ImageCrop:
    """The scale and shift of all silhouettes that fits the masks best."""
    best = ImageCrop(0.0, 1.0, (0.0, 0.0))
    height, width = masks[0].shape
    for scale in _SCALES:
        scaled = [scale_silhouette(head, scale) for head in heads]
        gain = sum(_correlate(head, mask) for head, mask in zip(scaled, masks, strict=True))
        dy, dx = np.unravel_index(int(np.argmax(gain)), (2 * height, 2 * width))
        # Shifts beyond the size are negative.
        dy, dx = (int(d) if d < size else int(d) - 2 * size for d, size in ((dy, height), (dx, width)))
        union = median_overlap([move_silhouette(head, dx, dy) for head in scaled], masks).union
        if union > best.union:
            best = ImageCrop(union, scale, (dx / max(height, width), dy / max(height, width)))
    return best


def scale_silhouette(head: Bool[np.ndarray, "h w"], scale: float) -> Bool[np.ndarray, "h w"]:
    """The silhouette scaled about the middle of the image."""
    height, width = head.shape
    y, x = ((np.arange(size) + 0.5 - size / 2) / scale + size / 2 for size in (height, width))
    rows, columns = np.floor(y).astype(int), np.floor(x).astype(int)
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None]
    return head[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)] & inside


def move_silhouette(head: Bool[np.ndarray, "h w"], dx: int, dy: int) -> Bool[np.ndarray, "h w"]:
    """The silhouette moved by pixels to the right and down; what leaves the image is lost."""
    height, width = head.shape
    moved = np.zeros_like(head)
    target = (slice(max(0, dy), min(height, height + dy)), slice(max(0, dx), min(width, width + dx)))
    source = (slice(max(0, -dy), min(height, height - dy)), slice(max(0, -dx), min(width, width - dx)))
    moved[target] = head[source]
    return moved


def _correlate(head: Bool[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "shifts_y shifts_x"]:
    """Pixels of the head inside the mask minus those outside, for each shift; negative shifts are at the end."""
    shape = tuple(2 * size for size in head.shape)
    gain = np.where(mask, 1.0, -1.0)
    # Higher places are preferred, because a head also fits inside shoulders.
    gain = gain * np.linspace(1.2, 0.8, len(mask))[:, None]
    return np.fft.irfft2(np.fft.rfft2(gain, shape) * np.conj(np.fft.rfft2(head.astype(float), shape)), shape)
