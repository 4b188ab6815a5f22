"""Roughness of planes: its value, and its gradient against automatic differentiation."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from partnerface_ns.fields.plane_roughness import PlaneRoughness


def by_differences(planes: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    across_rows = planes[:, :, rows + 1] - planes[:, :, rows]
    across_columns = planes[..., columns + 1] - planes[..., columns]
    return across_rows.square().mean() + across_columns.square().mean()


def test_value_and_gradient_are_those_of_the_differences():
    rows, columns = torch.tensor([0, 3, 3, 5]), torch.tensor([2, 1])  # a row is drawn twice, and its neighbour too
    planes = torch.randn(3, 2, 7, 7, requires_grad=True)
    expected = by_differences(planes, rows, columns)
    (gradient,) = torch.autograd.grad(0.3 * expected, planes)
    found = PlaneRoughness.apply(planes, rows, columns)
    assert_close(found, expected)
    assert_close(torch.autograd.grad(0.3 * found, planes)[0], gradient)
