"""What one picture takes of everything that is counted, so that a recording of it can be played for others."""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor

_MORE_ROWS, _MORE_CELLS = 1.3, 1.15
"""How many times as many cells and rays, and cells along a side of the lattice, a recording has room for as the picture
that it is made for takes; a picture that takes more is recorded anew."""


class Room(NamedTuple):
    """What `fixed_shapes` fixes of a picture: all that is counted otherwise."""

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
    def of(counts: Int[Tensor, "7"]) -> Room:
        return Room(*map(int, counts.tolist()))

    def grown(self) -> Room:
        """With room for other pictures."""
        cells = (math.ceil(_MORE_CELLS * n) for n in self[:3])
        return Room(*cells, *(math.ceil(_MORE_ROWS * n) + 1 for n in self[3:]))

    def or_more(self, other: Room) -> Room:
        """Room for what either has room for."""
        return Room(*map(max, self, other))

    def holds(self, needs: Room) -> bool:
        return all(need <= has for need, has in zip(needs, self, strict=True))
