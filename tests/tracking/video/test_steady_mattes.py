"""Steadier mattes."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.tracking.video.steady_mattes import steady_matte

SIZE = 64


@pytest.fixture
def scene(disc) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on a dark background, and its matte."""
    alpha = disc(SIZE, (32, 32), 16.0)
    return np.repeat(np.round(40 + 160 * alpha)[..., None], 3, -1).astype(np.uint8), alpha


def test_a_pixel_that_flickers_where_the_image_is_still_is_averaged(scene):
    rgb, alpha = scene
    flickering = alpha.copy()
    flickering[4, 4] = 0.9
    noise = np.random.default_rng(0).normal(0, 2, (2, *rgb.shape))
    neighbours = [(np.round(rgb + values).astype(np.uint8), alpha) for values in noise]
    steady = steady_matte(rgb, flickering, neighbours)
    assert 0.25 < steady[4, 4] < 0.5
    rest = np.ones_like(alpha, dtype=bool)
    rest[4, 4] = False
    np.testing.assert_allclose(steady[rest], alpha[rest], atol=1e-5)


def test_a_moving_outline_is_not_blurred(scene, disc):
    rgb, alpha = scene
    neighbours = [(np.roll(rgb, shift, 1), np.roll(alpha, shift, 1)) for shift in (-3, 3)]
    steady = steady_matte(rgb, alpha, neighbours)
    blurred = (alpha + neighbours[0][1] + neighbours[1][1]) / 3
    assert np.abs(steady - alpha).mean() < 0.02 * np.abs(blurred - alpha).mean()


def test_a_matte_without_neighbours_is_kept(scene):
    rgb, alpha = scene
    np.testing.assert_array_equal(steady_matte(rgb, alpha, []), alpha)
