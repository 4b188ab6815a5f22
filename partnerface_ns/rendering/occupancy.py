"""Occupancy grid in canonical space: which cells contain density, and which cells training rays reach.

Nothing here is differentiable. Points are metres in the canonical frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from partnerface_ns.geometry.volumes import dilate
from partnerface_ns.rendering.sampling import SamplingConfig

_EXPECTED = 50.0
"""Density in 1/m that a possible cell has before its first update."""
_HIDDEN = 0.1
"""Transmittance of training rays up to which a point counts as hidden."""
_COARSE = 4
"""Cells of the occupancy grid along each side of a coarse cell."""


class OccupancyGrid(nn.Module):
    """Recent density of each cell of the canonical box, 1/m, and the transmittance of training rays there."""

    lower: Tensor
    upper: Tensor
    possible: Tensor
    density: Tensor
    dilated: Tensor
    surroundings: Tensor
    reached: Tensor

    def __init__(
        self, resolution: int, lower: Float[Tensor, "3"], upper: Float[Tensor, "3"], possible: Bool[Tensor, "cells"]
    ) -> None:
        """
        Args:
            resolution: cells along each side, a multiple of 4.
            lower: lower corner of the box, metres.
            upper: upper corner of the box, metres.
            possible: cells that may be occupied, flattened over x, y, z.
        """
        super().__init__()
        self.resolution = resolution
        self.register_buffer("lower", lower.clone())
        self.register_buffer("upper", upper.clone())
        self.register_buffer("possible", possible.nonzero()[:, 0])
        initial = _EXPECTED * possible.float()
        self.register_buffer("density", initial)
        self.register_buffer("dilated", initial.clone())
        self.register_buffer("surroundings", self._surroundings())
        self.register_buffer("reached", torch.zeros_like(initial))

    @staticmethod
    def cell_centers(resolution: int, lower: Float[Tensor, "3"], upper: Float[Tensor, "3"]) -> Float[Tensor, "cells 3"]:
        """Centres of all cells of a box, metres, flattened over x, y, z."""
        axes = [torch.linspace(0.5 / resolution, 1 - 0.5 / resolution, resolution, device=lower.device)] * 3
        cells = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        return lower + cells * (upper - lower)

    def probe(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
        """Density of points, dilated by one cell, 1/m; zero outside the box."""
        return self._look_up(self.dilated, self.resolution, points)

    def near_occupied(self, points: Float[Tensor, "*batch 3"]) -> Bool[Tensor, "*batch"]:
        """Whether a point is within about eight cells of an occupied cell; a moving face stays within that distance."""
        return self._look_up(self.surroundings, self.resolution // _COARSE, points) > 0

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        if prefix + "widened" in state_dict:  # files of earlier versions
            state_dict[prefix + "dilated"] = state_dict.pop(prefix + "widened")
        state_dict.setdefault(prefix + "reached", torch.zeros_like(self.reached))  # files of earlier versions
        # Another person has another number of possible cells.
        stored = state_dict.get(prefix + "possible")
        if stored is not None:
            self.possible = torch.empty_like(stored, device=self.possible.device)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def reached_at(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
        """Largest transmittance of recent training samples in the cell of each point; zero outside the box."""
        return self._look_up(self.reached, self.resolution, points)

    def is_hidden(self, points: Float[Tensor, "*batch 3"]) -> Bool[Tensor, "*batch"]:
        """Whether hardly any recent training ray reached the cell of each point."""
        return self.reached_at(points) < _HIDDEN

    @torch.no_grad()
    def mark_reached(self, points: Float[Tensor, "points 3"], transmittance: Float[Tensor, "points"]) -> None:
        """Raise the stored transmittance of cells to that of the samples of training rays in them."""
        index, inside = self._cells(self.resolution, points)
        self.reached.scatter_reduce_(0, index, transmittance.nan_to_num() * inside, "amax")

    def _look_up(self, values: Tensor, resolution: int, points: Tensor) -> Tensor:
        index, inside = self._cells(resolution, points)
        return values[index] * inside

    def _cells(self, resolution: int, points: Tensor) -> tuple[Tensor, Tensor]:
        """Index of the cell of each point, and whether the point is inside the box."""
        scaled = (points - self.lower) * (resolution / (self.upper - self.lower))
        cell = scaled.nan_to_num().long().clamp(0, resolution - 1)
        inside = ((scaled > 0) & (scaled < resolution)).all(-1)
        return (cell[..., 0] * resolution + cell[..., 1]) * resolution + cell[..., 2], inside

    def _surroundings(self) -> Float[Tensor, "coarse_cells"]:
        cube = F.max_pool3d(self.dilated.reshape(1, 1, *[self.resolution] * 3), _COARSE)
        return F.max_pool3d(cube, 5, stride=1, padding=2).flatten()

    def draw(self, num: int) -> tuple[Int[Tensor, "cells"], Float[Tensor, "cells 3"]]:
        """Random possible cells, and a random point in each, metres."""
        index = self.possible[torch.randint(self.possible.shape[0], (num,), device=self.possible.device)]
        r = self.resolution
        corner = torch.stack([index // (r * r), index // r % r, index % r], -1)
        return index, self.lower + (corner + torch.rand(num, 3, device=index.device)) * (self.upper - self.lower) / r

    @torch.no_grad()
    def update(
        self,
        index: Int[Tensor, "cells"],
        density: Float[Tensor, "cells"],
        config: SamplingConfig,
        enabled: Bool[Tensor, ""] | None = None,
    ) -> None:
        """Decay all cells, raise some to their new densities, and dilate the result by one cell.

        Args:
            index: cells with a new density.
            density: their densities, 1/m. If any is not finite, nothing changes.
            config: decay and threshold.
            enabled: whether anything changes, on the grid's device; None is yes.
        """
        finite = density.isfinite().all()
        enabled = finite if enabled is None else finite & enabled
        self.density.mul_(torch.where(enabled, config.decay, 1.0))
        self.density.scatter_reduce_(0, index, torch.where(enabled, density, 0.0), "amax")
        cube = dilate(self.density.reshape([self.resolution] * 3))
        self.dilated.copy_(torch.where(cube < config.empty_below, 0, cube).flatten())
        self.surroundings.copy_(self._surroundings())
