"""Subsets of a table's rows, with shapes that are either counted or fixed.

Usually the rows for which a condition holds are counted, and only they are computed. The count decides shapes: a GPU
must be synchronised to read it, and a CUDA graph cannot be replayed for another count. With `fixed` shapes nothing is
counted. All rows are computed, or a given capacity of them, and the results of the other rows are dropped. Both ways
give the same results as long as the capacity holds every row that is needed.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor


class Rows:
    """The rows of a table for which a condition holds."""

    def __init__(self, holds: Bool[Tensor, "rows"], fixed: bool = False, capacity: int | None = None) -> None:
        """
        Args:
            holds: the condition for each row.
            fixed: whether shapes must not depend on `holds`.
            capacity: number of rows that are computed under fixed shapes, those that hold first; None computes all.
        """
        self.holds, self._fixed = holds, fixed
        self._chosen: Tensor | None = None
        if not fixed:
            self._chosen = holds.nonzero()[:, 0]
        elif capacity is not None and capacity < len(holds):
            self._chosen = (~holds).byte().argsort(stable=True)[:capacity]

    @property
    def index(self) -> Int[Tensor, "chosen"]:
        """Indices of the rows that are computed."""
        return torch.arange(len(self.holds), device=self.holds.device) if self._chosen is None else self._chosen

    def gather(self, values: Shaped[Tensor, "rows *channels"]) -> Shaped[Tensor, "chosen *channels"]:
        """The rows that are computed."""
        return values if self._chosen is None else values.index_select(0, self._chosen)

    def gather_columns(self, values: Shaped[Tensor, "channels rows"]) -> Shaped[Tensor, "channels chosen"]:
        """The rows that are computed, of a table whose rows lie along the last axis."""
        return values if self._chosen is None else values[:, self._chosen]

    def scatter(
        self, values: Shaped[Tensor, "rows *channels"], computed: Shaped[Tensor, "chosen *channels"]
    ) -> Shaped[Tensor, "rows *channels"]:
        """Values with the rows that hold replaced by computed ones."""
        computed = computed.to(values.dtype)
        if self._fixed:
            holds = self.gather(self.holds).view(-1, *[1] * (values.ndim - 1))
            computed = torch.where(holds, computed, self.gather(values))
        return computed if self._chosen is None else values.index_copy(0, self._chosen, computed)


def run_lengths(owner: Int[Tensor, "rows"], num_owners: int, fixed: bool = False) -> list[int]:
    """Number of rows of each owner.

    Args:
        owner: owner of each row, counted from 0, ascending.
        num_owners: number of owners.
        fixed: whether shapes are fixed; every owner then has equally many rows.
    """
    if fixed:
        return [len(owner) // num_owners] * num_owners
    return torch.bincount(owner, minlength=num_owners).tolist()
