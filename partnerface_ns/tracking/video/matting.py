"""The default matting: MediaPipe's selfie segmentation, refined along the image's edges by a guided filter."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from partnerface_ns.tracking.video.guided_filter import guided_filter
from partnerface_ns.tracking.video.networks.selfie_segmenter import SelfieSegmenter

_RADIUS_SHARE = 0.014
"""Radius of the guided filter, as a share of the image's side."""
_SMOOTHNESS = 2e-4
"""Variance of colours in [0, 1] below which the guided filter sees no edge."""
_CONTRAST = 2.2
"""Contrast that the filtered matte gets around one half."""


class SelfieMatting:
    """Makes a matte of each image (a `Matting`)."""

    def __init__(self) -> None:
        self._segment = SelfieSegmenter()

    def __call__(self, rgb: UInt8[np.ndarray, "rows columns 3"], /) -> Float[np.ndarray, "rows columns"]:
        """Return the matte in [0, 1], float32, 1 on the person; its edges follow hair."""
        rough = self.rough(rgb)
        radius = max(2, round(_RADIUS_SHARE * min(rough.shape)))
        fine = guided_filter(rgb.astype(np.float32) / 255, rough, radius, _SMOOTHNESS)
        return np.clip((fine - 0.5) * _CONTRAST + 0.5, 0, 1)

    def rough(self, rgb: UInt8[np.ndarray, "rows columns 3"], /) -> Float[np.ndarray, "rows columns"]:
        """Return the network's output alone, which does not follow the image's edges."""
        return self._segment(rgb)
