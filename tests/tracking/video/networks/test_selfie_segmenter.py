"""A rough matte of a person."""

from __future__ import annotations

import numpy as np

from partnerface_ns.tracking.video.networks.selfie_segmenter import SelfieSegmenter


def test_the_matte_is_that_of_mediapipe(mediapipe_says):
    rgb = mediapipe_says["images"][0]
    matte = SelfieSegmenter()(rgb)
    assert matte.shape == rgb.shape[:2] and matte.dtype == np.float32
    assert matte.min() >= 0 and matte.max() <= 1 and 0.1 < matte.mean() < 0.5
    np.testing.assert_allclose(matte, mediapipe_says["matte"] / 255, atol=0.005)
