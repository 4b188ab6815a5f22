"""The default matting."""

from __future__ import annotations

from partnerface_ns.tracking.video.matting import SelfieMatting


def test_the_person_is_cut_out(images):
    matting = SelfieMatting()
    for rgb, truth in images[:3]:
        matte = matting(rgb)
        assert matte.shape == truth.shape and matte.min() >= 0 and matte.max() <= 1
        person, true = matte > 0.5, truth > 0.5
        assert (person & true).sum() / (person | true).sum() > 0.95
