"""Losses: values around their kinks, and gradients of wrong rays."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.rendering.losses import ambiguity, color_loss, mask_loss, mean_height


def one(value: float) -> torch.Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


@pytest.mark.parametrize("beta", [0.05, 0.2])
def test_colour_errors_count_squared_when_small_and_linearly_when_large(beta):
    target = torch.rand(5, 3)
    small, large = 0.4 * beta, beta + 0.3
    assert_close(color_loss(target + small, target, beta), torch.tensor(small**2))
    assert_close(color_loss(target - large, target, beta), torch.tensor(2 * beta * large - beta**2))
    assert color_loss(target, target, beta) == 0


def test_the_colour_loss_has_right_gradients():
    rgb = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    target = torch.rand(4, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: color_loss(x, target, 0.1), rgb)


def test_only_half_transparent_rays_of_certain_pixels_are_ambiguous():
    half = math.log(2)
    assert_close(ambiguity(one(half), one(1.0)), one(1.0)[0, 0])
    assert ambiguity(one(half), one(0.5)) == 0
    assert ambiguity(one(0.0), one(0.0)) == 0 and ambiguity(one(30.0), one(1.0)) < 1e-9
    both = torch.cat([one(half), one(half)])
    assert_close(ambiguity(both, torch.cat([one(0.0), one(0.4)])), torch.tensor(0.5, dtype=torch.float64))


@pytest.mark.parametrize("mask", [0.0, 1.0])
def test_the_mask_loss_grows_with_the_error_of_the_mask(mask):
    depths = [1e-9, 0.1, 0.7, 3.0, 12.0]
    costs = [float(mask_loss(one(t), one(mask))) for t in depths]
    assert costs == sorted(costs, reverse=mask == 1)
    assert min(costs) < 0.002
    assert max(costs) > 1


def test_opacity_inside_the_mask_is_cross_entropy():
    """-log of the opacity, up to the damping at zero."""
    for t in (0.5, 1.0, 4.0):
        assert math.isclose(float(mask_loss(one(t), one(1.0))), -math.log(1 - math.exp(-t)), abs_tol=0.003)


@pytest.mark.parametrize(("depth", "mask"), [(20.0, 0.0), (5.0, 0.0), (0.01, 1.0), (1e-6, 1.0)])
def test_a_wrong_ray_always_has_a_gradient(depth, mask):
    """Where opacity saturates its square would have no gradient left: exp(-20) is 2e-9."""
    t = one(depth).requires_grad_()
    loss = mask_loss(t, one(mask))
    loss.backward()
    step = min(1e-4, depth / 4)
    difference = float(mask_loss(one(depth + step), one(mask)) - mask_loss(one(depth - step), one(mask))) / (2 * step)
    assert_close(float(t.grad), difference, rtol=1e-3, atol=1e-8)
    assert abs(float(t.grad)) > 0.01
    assert (difference > 0) == (mask == 0)


def test_an_empty_ray_outside_the_mask_is_at_rest_and_finite():
    t = one(0.0).requires_grad_()
    for mask in (0.0, 1.0):
        (gradient,) = torch.autograd.grad(mask_loss(t, one(mask)), t)
        assert gradient.isfinite().all()
        assert (gradient < 0) == (mask == 1)


def test_soft_masks_lie_between_hard_ones():
    t = one(0.8)
    ends = [mask_loss(t, one(m)) for m in (0.0, 1.0)]
    assert_close(mask_loss(t, one(0.25)), 0.75 * ends[0] + 0.25 * ends[1])


def test_the_mean_height_is_weighted_by_opacity_which_has_no_gradient():
    """A ray that is half transparent counts half. Scaling all weights of a ray changes nothing."""
    weights = torch.tensor([[0.3, 0.2], [0.6, 0.4]], dtype=torch.float64, requires_grad=True)
    above = torch.tensor([0.04, 0.0], dtype=torch.float64)
    opacity = weights.sum(1, keepdim=True)
    height = mean_height((weights * above).sum(1, keepdim=True), -torch.log1p(-opacity.clamp(max=1 - 1e-9)))
    assert_close(float(height), (0.012 + 0.024) / 2)
    height.backward()
    assert_close((weights.grad * weights.detach())[0].sum(), torch.tensor(0.0, dtype=torch.float64))
    assert weights.grad[0, 0] > 0 > weights.grad[0, 1]
