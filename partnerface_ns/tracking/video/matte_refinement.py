"""Sharp alpha and foreground colours of one image, from a rough matte.

Pixels near the outline of the rough matte are unknown. Their alpha follows from the colours around them, first at half
the size, then at full size in the narrower band that is left. A guided filter makes alpha follow the image's edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from partnerface_ns.tracking.video.background_plate import Background
from partnerface_ns.tracking.video.colour_matting import (
    Colours,
    estimate_alpha,
    estimate_foreground,
    surrounding_colours,
)
from partnerface_ns.tracking.video.guided_filter import guided_filter
from partnerface_ns.tracking.video.packages import require

_UNKNOWN, _UNKNOWN_FINE = 0.05, 0.011
"""Half the width of the unknown band about the rough outline, and about the outline at half size, in face heights."""
_RADIUS = 0.07
"""Radius of the surroundings whose colours count, face heights."""
_SURE = 0.1
"""Distance from 0 or 1 within which a matte is sure."""
_FILTER_RADIUS = 0.02
"""Radius of the guided filter, face heights."""
_SMOOTHNESS = 2e-4
"""Variance of colours in [0, 1] below which the guided filter sees no edge."""
_CONTRAST = 1.2
"""Contrast that the filtered alpha gets around one half, because the filter blurs where its model does not fit."""


@dataclass(frozen=True)
class Matte:
    """Alpha and foreground colours. Outside of the band about the outline, the foreground is the image."""

    alpha: Float[np.ndarray, "rows columns"]
    foreground: Float[np.ndarray, "rows columns 3"]


def refine_matte(
    rgb: UInt8[np.ndarray, "rows columns 3"],
    rough: Float[np.ndarray, "rows columns"],
    face_height: float,
    known: Background | None = None,
) -> Matte:
    """Return the fine matte.

    Args:
        rgb: the image.
        rough: where the person is.
        face_height: from forehead to chin, pixels.
        known: the background, where other frames show it.
    """
    cv2 = require("cv2")
    image, rows, columns = rgb.astype(np.float32) / 255, *rough.shape
    half = ((columns + 1) // 2, (rows + 1) // 2)
    small, small_rough = (cv2.resize(values, half, interpolation=cv2.INTER_AREA) for values in (image, rough))
    coarse = _Band.of(small, small_rough, _UNKNOWN * face_height / 2, face_height / 2, known and known.half()).alpha()
    band = _Band.of(image, cv2.resize(coarse, (columns, rows)), _UNKNOWN_FINE * face_height, face_height, known)
    alpha = band.alpha()
    foreground = image.copy()
    foreground[band.unknown] = band.foreground_for(alpha[band.unknown])
    return Matte(alpha, foreground)


@dataclass(frozen=True)
class _Band:
    """The unknown pixels of an image, with the colours around each."""

    image: Float[np.ndarray, "rows columns 3"]
    prior: Float[np.ndarray, "rows columns"]
    face_height: float
    unknown: Bool[np.ndarray, "rows columns"]
    foreground: Colours
    background: Colours

    @staticmethod
    def of(
        image: Float[np.ndarray, "rows columns 3"],
        prior: Float[np.ndarray, "rows columns"],
        width: float,
        face_height: float,
        known: Background | None,
    ) -> _Band:
        """The band about the outline of a matte, and wherever the matte is unsure; `width` in pixels."""
        person, other = _shrink(prior > 0.5, width), _shrink(prior <= 0.5, width)
        person, other = person & (prior > 1 - _SURE), other & (prior < _SURE)
        unknown, radius = ~(person | other), max(2, round(_RADIUS * face_height))
        foreground, background = (
            surrounding_colours(image, sure.astype(np.float32), unknown, radius) for sure in (person, other)
        )
        if known is not None:
            seen = known.colours[unknown]
            better = known.known[unknown] & (seen.variance < background.variance)
            background = Colours.choose(better, seen, background)
        return _Band(image, np.where(unknown, prior, person), face_height, unknown, foreground, background)

    def alpha(self) -> Float[np.ndarray, "rows columns"]:
        """Alpha of the image."""
        unknown, alpha = self.unknown, self.prior.astype(np.float32)
        alpha[unknown] = estimate_alpha(self.image[unknown], self.foreground, self.background, alpha[unknown])
        radius = max(2, round(_FILTER_RADIUS * self.face_height))
        smooth = guided_filter(self.image, alpha, radius, _SMOOTHNESS)
        return np.where(unknown, np.clip((smooth - 0.5) * _CONTRAST + 0.5, 0, 1), alpha)

    def foreground_for(self, alpha: Float[np.ndarray, "unknown"]) -> Float[np.ndarray, "unknown 3"]:
        """Foreground colours of the unknown pixels."""
        return estimate_foreground(self.image[self.unknown], alpha, self.foreground, self.background)


def _shrink(mask: Bool[np.ndarray, "rows columns"], width: float) -> Bool[np.ndarray, "rows columns"]:
    """Remove the pixels within a distance from the border of a mask; the image's border does not count."""
    cv2 = require("cv2")
    reach = max(1, round(width))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.erode(mask.astype(np.uint8), disc) > 0
