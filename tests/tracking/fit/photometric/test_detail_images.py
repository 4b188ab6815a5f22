"""Detail images: no background, no slow shading, exact sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from partnerface_ns.tracking.fit.photometric.detail_images import DetailImages, Level, detail_image, matte_frame

LEVEL = Level(1.0, 6.0)


def noise(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)


def test_a_plain_person_has_no_detail_on_any_background(disc):
    matte = (255 * disc(128, (64.0, 60.0), 30.0)).astype(np.uint8)
    for background in (noise(128), np.zeros((128, 128, 3), np.uint8)):
        rgb = np.where(matte[..., None] > 0, 140, background).astype(np.uint8)
        assert np.abs(detail_image(rgb, matte, LEVEL)).max() < 0.5


def test_the_frame_of_a_matte_has_detail_at_the_outline_only(disc):
    everywhere = np.full((128, 128), 255, np.uint8)
    assert np.abs(detail_image(*matte_frame(everywhere), LEVEL)).max() < 0.5
    detail = np.abs(detail_image(*matte_frame((255 * disc(128, (64.0, 64.0), 30.0)).astype(np.uint8)), LEVEL))
    assert detail[64, 92:97].max() > 50 and detail[60:68, 60:68].max() < 0.5


def test_slow_shading_is_removed_and_texture_is_kept():
    x = np.arange(256, dtype=np.float64)
    shading, stripes = 100 + 0.2 * x, 40 * np.sin(2 * np.pi * x / 10)
    white = np.full((256, 256), 255, np.uint8)
    images = [np.broadcast_to(v[None, :, None], (256, 256, 3)).astype(np.uint8) for v in (shading, shading + stripes)]
    plain, striped = (detail_image(image, white, LEVEL)[20:-20, 30:-30] for image in images)
    assert np.abs(plain).max() < 2 and np.abs(striped).max() > 20


@pytest.mark.parametrize("size", [128, 512])
def test_samples_and_slopes(tmp_path, size):
    """A larger frame is reduced, and slopes stay relative to its own pixels."""
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    period = size / 8
    wave = 128 + 60 * np.sin(2 * np.pi * x / period) + 30 * np.cos(2 * np.pi * y / period)
    frame = np.repeat(np.round(wave)[..., None], 3, -1).astype(np.uint8), np.full((size, size), 255, np.uint8)
    levels = (Level(0.5, 60.0),)
    details = DetailImages(tmp_path / "d.npy", lambda _: frame, 2, size, levels)
    pixels = size * (0.3 + 0.4 * torch.rand(2, 50, 2))
    values, slopes = details.sample_with_slope(0, slice(0, 2), pixels)
    torch.testing.assert_close(values, details.sample(0, slice(0, 2), pixels))
    torch.testing.assert_close(values[1:], details.sample(0, torch.tensor([1]), pixels[1:]))
    moved = [details.sample(0, slice(0, 2), pixels + 0.02 * size / 128 * torch.eye(2)[axis]) for axis in (0, 1)]
    measured = torch.stack([(m - values) / (0.02 * size / 128) for m in moved], -1)
    assert (slopes - measured).abs().max() < 0.25 * measured.abs().max()
    phase = 2 * torch.pi * (pixels - 0.5) / period
    expected = 60 * phase[..., 0].sin() + 30 * phase[..., 1].cos()
    assert (values - values.mean() - expected + expected.mean()).abs().max() < 12
