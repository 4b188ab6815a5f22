"""Roughness of feature planes, with a gradient that is written once.

Automatic differentiation would fill planes with zeros for each of the four reads of rows and columns, and add them up.
On a CPU these passes over memory cost more than the differences themselves.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


class PlaneRoughness(torch.autograd.Function):
    """Mean squared difference of neighbouring rows, plus that of neighbouring columns."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        planes: Float[Tensor, "planes channels side side"],
        rows: Int[Tensor, "rows"],
        columns: Int[Tensor, "columns"],
    ) -> Float[Tensor, ""]:
        """
        Args:
            ctx: keeps what the gradient needs.
            planes: feature planes.
            rows: rows that are compared with the next row.
            columns: columns that are compared with the next column.
        """
        across_rows = planes.index_select(-2, rows + 1).sub_(planes.index_select(-2, rows))
        across_columns = planes.index_select(-1, columns + 1).sub_(planes.index_select(-1, columns))
        ctx.save_for_backward(rows, columns, across_rows, across_columns)
        ctx.shape = planes.shape
        return across_rows.square().mean() + across_columns.square().mean()

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, ""]) -> tuple[Tensor, None, None]:  # type: ignore[override]
        """Gradient of the planes."""
        rows, columns, across_rows, across_columns = ctx.saved_tensors
        of_planes = across_rows.new_zeros(ctx.shape)
        for axis, index, difference in ((-2, rows, across_rows), (-1, columns, across_columns)):
            of_difference = difference * (2 * gradient / difference.numel())
            of_planes.index_add_(axis, index + 1, of_difference).index_add_(axis, index, of_difference, alpha=-1)
        return of_planes, None, None
