"""Buffer capacities of one rendered image. A CUDA graph captured with them can be replayed for any image that fits."""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor

_ROWS_HEADROOM, _CELLS_HEADROOM = 1.3, 1.15
"""Factors by which a capacity exceeds the image that it was counted on: cells and rays, and cells along a lattice side.
An image that needs more is captured again."""


class Capacity(NamedTuple):
    """Numbers that are counted for each image, and that fixed shapes limit."""

    rows: int
    columns: int
    depths: int
    """Cells of the coarse lattice along each axis."""
    near: int
    """Coarse cells near occupied cells."""
    visible: int
    """Fine cells that are visible."""
    hit: int
    """Rays that hit anything."""
    exact: int
    """Hit rays whose samples are all warped."""

    @staticmethod
    def of(counts: Int[Tensor, "7"]) -> Capacity:
        """Capacities of counted numbers; this synchronises a GPU."""
        return Capacity(*map(int, counts.tolist()))

    def with_headroom(self) -> Capacity:
        """Capacities with headroom for other images."""
        cells = (math.ceil(_CELLS_HEADROOM * n) for n in self[:3])
        return Capacity(*cells, *(math.ceil(_ROWS_HEADROOM * n) + 1 for n in self[3:]))

    def union(self, other: Capacity) -> Capacity:
        """Capacities that hold whatever either holds."""
        return Capacity(*map(max, self, other))

    def holds(self, needs: Capacity) -> bool:
        """Whether an image with these needs fits."""
        return all(need <= has for need, has in zip(needs, self, strict=True))
