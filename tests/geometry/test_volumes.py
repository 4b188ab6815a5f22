"""Interpolating, refining and dilating volumes: equal to torch's functions for any number of threads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from partnerface_ns.geometry.volumes import dilate, read_volume, refine


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("num", [0, 1, 7, 300])
def test_every_point_gets_its_own_value(threads, padding, num):
    volume, at = torch.randn(2, 4, 5, 6), 2.4 * torch.rand(num, 3) - 1.2
    expected = F.grid_sample(volume[None], at[None, None, None], align_corners=True, padding_mode=padding)[0, :, 0, 0]
    assert_close(read_volume(volume, at, padding), expected)


def test_gradients_reach_the_points(threads):
    volume, at = torch.randn(1, 4, 4, 4), (torch.rand(5, 3) - 0.5).requires_grad_()
    read_volume(volume, at, "border").sum().backward()
    once = at.grad.clone()
    at.grad = None
    F.grid_sample(volume[None], at[None, None, None], align_corners=True).sum().backward()
    assert_close(once, at.grad)


@pytest.mark.parametrize("shape", [(8, 6, 10), (9, 7, 11), (4, 3, 5)], ids=str)
def test_refine_equals_interpolate(shape):
    volumes = torch.randn(2, 3, 4, 3, 5)
    assert_close(refine(volumes, shape), F.interpolate(volumes, size=shape, mode="trilinear", align_corners=False))


@pytest.mark.parametrize("shape", [(5, 4, 6), (1, 2, 3)], ids=str)
def test_dilate_equals_max_pooling(shape):
    values = torch.randn(shape)
    before = values.clone()
    assert torch.equal(dilate(values), F.max_pool3d(values[None], 3, stride=1, padding=1)[0])
    assert torch.equal(values, before)


def test_a_position_that_is_not_finite_gives_nan_and_a_gradient_pass_that_stays_inside():
    volume = torch.randn(3, 4, 5, 6)
    at = torch.full((5000, 3), torch.nan, requires_grad=True)
    values = read_volume(volume, at, "border")
    assert values.isnan().all()
    values.sum().backward()
    assert at.grad is not None
