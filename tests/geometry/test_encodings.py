"""Encodings of positions and directions."""

from __future__ import annotations

import math

import torch
from torch.testing import assert_close

from partnerface_ns.geometry.encodings import FrequencyEncoding, asinh, spherical_harmonics


def test_frequencies_are_octaves_of_pi(batch):
    encoding = FrequencyEncoding(3)
    points = torch.rand(*batch, 3) * 2 - 1
    encoded = encoding(points)
    assert encoded.shape == (*batch, encoding.size)
    for point, found in zip(points.reshape(-1, 3).tolist(), encoded.reshape(-1, encoding.size), strict=True):
        waves = [(wave, octave, x) for wave in (math.sin, math.cos) for octave in range(3) for x in point]
        expected = point + [wave(math.pi * 2**octave * x) for wave, octave, x in waves]
        assert_close(found, torch.tensor(expected))


def test_zero_frequencies_return_the_position():
    points = torch.rand(5, 3)
    assert_close(FrequencyEncoding(0)(points), points)


def test_encodings_have_right_gradients():
    points = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(FrequencyEncoding(2).double(), points)
    assert torch.autograd.gradcheck(spherical_harmonics, points)


def test_harmonics_are_orthogonal_over_the_sphere(batch):
    z, weights = (torch.tensor(v) for v in ([-math.sqrt(0.6), 0.0, math.sqrt(0.6)], [5 / 9, 8 / 9, 5 / 9]))
    angle = torch.arange(8) * 2 * math.pi / 8
    radius = (1 - z**2).sqrt()[:, None]
    directions = torch.stack([radius * angle.cos(), radius * angle.sin(), z[:, None].expand(3, 8)], -1)
    values = spherical_harmonics(directions)
    # Gauss-Legendre times the trapezoid rule is exact for products of degree two.
    products = torch.einsum("i,ika,ikb->ab", weights, values, values)
    assert_close(products, products.diag().diag())
    assert (products.diag() > 0).all()
    assert_close(torch.einsum("i,ika->a", weights, values), torch.zeros(8), atol=1e-5, rtol=0)
    assert spherical_harmonics(torch.rand(*batch, 3)).shape == (*batch, 8)


def test_asinh_is_torchs_and_smooth_at_zero(batch):
    x = 10 * torch.randn(*batch, 3)
    assert_close(asinh(x), x.asinh(), atol=1e-4, rtol=1e-5)
    zero = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(asinh, zero)
