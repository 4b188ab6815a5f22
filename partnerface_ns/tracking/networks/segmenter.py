"""How likely each pixel of an image shows a person: the general model of MediaPipe's selfie segmentation."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from partnerface_ns.tracking.networks.region import Region
from partnerface_ns.tracking.networks.runtime import ASSETS, Network
from partnerface_ns.tracking.video import require

_MODEL = ASSETS / "selfie_segmentation.tflite"
_SIDE = 256
"""Pixels of the network's input and output; the image is stretched to this square."""


class Segmenter:
    """Segments one image after the other."""

    def __init__(self) -> None:
        self._network = Network(_MODEL)

    def __call__(self, rgb: UInt8[np.ndarray, "rows columns 3"]) -> Float[np.ndarray, "rows columns"]:
        """A rough matte in [0, 1], float32, person = 1."""
        image = Region.whole(rgb).cut(rgb, _SIDE).astype(np.float32) / 255
        (mask,) = self._network(image)
        return require("cv2").resize(mask[..., 0], rgb.shape[1::-1])
