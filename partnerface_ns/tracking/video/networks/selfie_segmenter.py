"""The general model of MediaPipe's selfie segmentation: the probability that a pixel shows a person."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from partnerface_ns.tracking.video.networks.region import ImageRegion
from partnerface_ns.tracking.video.networks.runtime import ASSETS, Network
from partnerface_ns.tracking.video.packages import require

_MODEL = ASSETS / "selfie_segmentation.tflite"
_SIDE = 256
"""Side of the network's input and output, pixels; the image is stretched to this square."""


class SelfieSegmenter:
    """The network with its pre- and postprocessing."""

    def __init__(self) -> None:
        self._network = Network(_MODEL)

    def __call__(self, rgb: UInt8[np.ndarray, "rows columns 3"]) -> Float[np.ndarray, "rows columns"]:
        """Return a rough matte in [0, 1], float32, 1 on the person."""
        image = ImageRegion.whole(rgb).cut(rgb, _SIDE).astype(np.float32) / 255
        (mask,) = self._network(image)
        return require("cv2").resize(mask[..., 0], rgb.shape[1::-1])
