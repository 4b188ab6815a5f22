"""Alpha and foreground colours from Gaussian colours."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.tracking.video.colour_matting import (
    Colours,
    estimate_alpha,
    estimate_foreground,
    explainable,
    surrounding_colours,
)

NUM = 400
RED, BLUE = np.array([0.8, 0.2, 0.1]), np.array([0.1, 0.3, 0.7])


def gaussian(mean: np.ndarray, spread: float) -> Colours:
    """The same colour with an isotropic spread at all pixels."""
    covariance = spread**2 * np.array([1, 0, 0, 1, 0, 1])
    return Colours(*(np.tile(values, (NUM, 1)).astype(np.float32) for values in (mean, covariance)))


@pytest.fixture
def mixed() -> tuple[np.ndarray, np.ndarray]:
    """Mixtures of red and blue with their alphas."""
    alpha = np.linspace(0, 1, NUM, dtype=np.float32)
    return (alpha[:, None] * RED + (1 - alpha[:, None]) * BLUE).astype(np.float32), alpha


def test_alpha_of_known_colours_is_found_without_help_of_the_prior(mixed):
    rgb, alpha = mixed
    found = estimate_alpha(rgb, gaussian(RED, 0.02), gaussian(BLUE, 0.02), np.full(NUM, 0.5, np.float32))
    assert np.abs(found - alpha).max() < 0.06 and np.abs(found - alpha).mean() < 0.03


def test_the_prior_decides_where_colours_do_not(mixed):
    rgb, _ = mixed
    same = gaussian(RED, 0.3)
    for prior in (0.0, 1.0):
        found = estimate_alpha(rgb, same, same, np.full(NUM, prior, np.float32))
        assert np.abs(found - prior).max() < 0.2


def test_the_equation_of_compositing_holds_for_any_colours():
    generator = np.random.default_rng(0)
    rgb, foreground, background = generator.random((3, NUM, 3), dtype=np.float32)
    alpha = generator.random(NUM, dtype=np.float32)
    spread = np.tile(np.float32([0.02, 0.005, 0, 0.02, 0, 0.02]), (NUM, 1))
    estimate = estimate_foreground(rgb, alpha, Colours(foreground, spread), Colours(background, spread))
    for result in (estimate, explainable(foreground, alpha, rgb)):
        behind = (rgb - alpha[:, None] * result) / (1 - alpha[:, None])
        assert behind.min() > -1e-4 and behind.max() < 1 + 1e-4
        assert result.min() >= 0 and result.max() <= 1


def test_foreground_colours_contain_no_background(mixed):
    rgb, alpha = mixed
    found = estimate_foreground(rgb, alpha, gaussian(RED, 0.05), gaussian(BLUE, 0.05))
    inner = alpha > 0.1
    assert np.abs(found - RED)[inner].max() < 0.05 < np.abs(rgb - RED)[inner].mean()


def test_surrounding_colours_are_those_of_the_weighted_pixels():
    generator = np.random.default_rng(1)
    rgb = generator.normal(0.5, 0.1, (64, 64, 3)).astype(np.float32)
    weights = np.zeros((64, 64), np.float32)
    weights[:, :32] = 1
    rgb[:, 32:] += 0.4
    # Blocks of two pixels are averaged first: the reference is computed from the averages.
    halves = rgb.reshape(32, 2, 32, 2, 3).mean((1, 3))[:, :16]
    where = np.zeros((64, 64), bool)
    where[32, 32] = True
    colours = surrounding_colours(rgb, weights, where, 200)
    np.testing.assert_allclose(colours.mean[0], halves.mean((0, 1)), atol=0.03)
    full = np.cov(halves.reshape(-1, 3).T, bias=True)
    np.testing.assert_allclose(colours.covariance[0], full[np.triu_indices(3)], atol=2e-3)
