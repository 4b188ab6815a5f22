"""Some rows of a table, and runs of its rows.

Usually the rows that matter are counted, and only they are computed. Counts decide shapes, so a GPU has to be waited
for, and a recording of its work (`partnerface_ns/recorded_work.py`) could not be played for other rows. Under
`fixed_shapes` nothing is counted: all rows are computed, or a given number of them, those that do not matter are
dropped afterwards, and each frame has equally many. The results are the same as long as there is room for what matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

_fixed: ContextVar[bool] = ContextVar("fixed_shapes", default=False)


@contextmanager
def fixed_shapes() -> Iterator[None]:
    """Within it, shapes depend on nothing but the number of rays and frames."""
    token = _fixed.set(True)
    try:
        yield
    finally:
        _fixed.reset(token)


def shapes_are_fixed() -> bool:
    return _fixed.get()


class Rows:
    """The rows of a table for which something holds."""

    def __init__(self, holds: Bool[Tensor, "rows"], room: int | None = None) -> None:
        """
        Args:
            holds: for each row.
            room: how many rows are computed under `fixed_shapes`, first those for which it holds, then others; None
                computes all.
        """
        self.holds, self._counted = holds, not shapes_are_fixed()
        self._chosen: Tensor | None = None
        if self._counted:
            self._chosen = holds.nonzero()[:, 0]
        elif room is not None and room < len(holds):
            self._chosen = (~holds).byte().argsort(stable=True)[:room]

    @property
    def index(self) -> Int[Tensor, "chosen"]:
        """Of the rows that are computed."""
        return torch.arange(len(self.holds), device=self.holds.device) if self._chosen is None else self._chosen

    def of(self, values: Shaped[Tensor, "rows *channels"]) -> Shaped[Tensor, "chosen *channels"]:
        """The rows to compute."""
        return values if self._chosen is None else values.index_select(0, self._chosen)

    def into(
        self, values: Shaped[Tensor, "rows *channels"], computed: Shaped[Tensor, "chosen *channels"]
    ) -> Shaped[Tensor, "rows *channels"]:
        """Values with the rows for which it holds replaced by those that were computed."""
        computed = computed.to(values.dtype)
        if not self._counted:
            holds = self.of(self.holds).view(-1, *[1] * (values.ndim - 1))
            computed = torch.where(holds, computed, self.of(values))
        return computed if self._chosen is None else values.index_copy(0, self._chosen, computed)


def run_lengths(owner: Int[Tensor, "rows"], num_owners: int) -> list[int]:
    """How many rows each owner has.

    Args:
        owner: of each row, ascending; each has equally many under `fixed_shapes`.
        num_owners: owners are counted from 0.
    """
    if shapes_are_fixed():
        return [len(owner) // num_owners] * num_owners
    return torch.bincount(owner, minlength=num_owners).tolist()
