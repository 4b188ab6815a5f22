"""What one image takes of everything that is counted, so that a recording of it can be played for others."""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor

_MORE_ROWS, _MORE_CELLS = 1.3, 1.15
"""How many times as many cells and rays, and cells along a side of the lattice, a recording has room for as the image
that it is made for takes; an image that takes more is recorded anew."""


class Capacity(NamedTuple):
    """What `fixed_shapes` fixes of an image: all that is counted otherwise."""

    rows: int
    columns: int
    depths: int
    """Of the coarse lattice."""
    near: int
    """Coarse cells near matter."""
    in_sight: int
    """Fine cells in sight."""
    hit: int
    """Rays that meet anything."""
    exact: int
    """Of these, rays that follow every sample."""

    @staticmethod
    def of(counts: Int[Tensor, "7"]) -> Capacity:
        return Capacity(*map(int, counts.tolist()))

    def grown(self) -> Capacity:
        """With room for other images."""
        cells = (math.ceil(_MORE_CELLS * n) for n in self[:3])
        return Capacity(*cells, *(math.ceil(_MORE_ROWS * n) + 1 for n in self[3:]))

    def or_more(self, other: Capacity) -> Capacity:
        """Capacity for what either has room for."""
        return Capacity(*map(max, self, other))

    def holds(self, needs: Capacity) -> bool:
        return all(need <= has for need, has in zip(needs, self, strict=True))
