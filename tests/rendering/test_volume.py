"""Volume rendering against a plain loop over samples."""

from __future__ import annotations

import math

import torch
from torch.testing import assert_close

from partnerface_ns.rendering.volume import weights_from_density


def composite(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Weighted sum of the samples' values, (rays, channels)."""
    return torch.einsum("rs,rsc->rc", weights, values)


def random_rays(rays: int = 7, samples: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Densities from empty to opaque, and interval lengths with some of zero."""
    density = (8 * torch.rand(rays, samples, dtype=torch.float64) - 3).exp()
    density[torch.rand(rays, samples) < 0.3] = 0
    delta = 0.05 * torch.rand(rays, samples, dtype=torch.float64)
    delta[0] = 0
    return density, delta


def test_weights_equal_a_loop_over_samples():
    density, delta = random_rays()
    for found, sigmas, deltas in zip(weights_from_density(density, delta), density, delta, strict=True):
        left = 1.0
        for weight, sigma, length in zip(found.tolist(), sigmas.tolist(), deltas.tolist(), strict=True):
            alpha = 1 - math.exp(-sigma * length)
            assert math.isclose(weight, left * alpha, abs_tol=1e-12)
            left *= 1 - alpha


def test_weights_are_shares_and_sum_to_the_opacity():
    density, delta = random_rays()
    weights = weights_from_density(density, delta)
    assert (weights >= 0).all()
    assert (weights.sum(1) <= 1 + 1e-12).all()
    assert_close(weights.sum(1), 1 - torch.exp(-(density * delta).sum(1)))


def test_an_opaque_sample_hides_what_lies_behind():
    weights = weights_from_density(torch.tensor([[0.0, 1e6, 1e6, 3.0]]), torch.full((1, 4), 0.01))
    assert_close(weights, torch.tensor([[0.0, 1.0, 0.0, 0.0]]))


def test_thin_air_keeps_its_share_in_single_precision():
    weights = weights_from_density(torch.full((1, 3), 1e-6), torch.full((1, 3), 1e-3))
    assert_close(weights, torch.full((1, 3), 1e-9), rtol=1e-4, atol=0)


def test_halving_the_intervals_changes_no_pixel():
    density, delta = random_rays()
    values = torch.rand(7, 9, 3, dtype=torch.float64)
    twice = lambda x: x.repeat_interleave(2, 1)  # noqa: E731
    whole = composite(weights_from_density(density, delta), values)
    halves = composite(weights_from_density(twice(density), twice(delta) / 2), twice(values))
    assert_close(whole, halves)


def test_composition_is_the_weighted_sum():
    weights, values = torch.rand(4, 5), torch.rand(4, 5, 2)
    expected = [
        [sum(w * v[c] for w, v in zip(ws, vs, strict=True)) for c in range(2)]
        for ws, vs in zip(weights, values, strict=True)
    ]
    assert_close(composite(weights, values), torch.tensor(expected))


def test_gradients_are_right():
    density, delta = random_rays(2, 4)
    density.requires_grad_()
    assert torch.autograd.gradcheck(lambda d: weights_from_density(d, delta), density)
