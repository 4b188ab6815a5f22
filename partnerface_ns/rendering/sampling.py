"""Ray sampling. An occupancy grid in canonical space proposes intervals; the canonical field's density refines them.

1. A ray is probed at `num_probes` even steps. The probes pass inverse skinning and read the occupancy grid.
2. `num_proposals` intervals are drawn from the probes' volume-rendering weights by inverse transform sampling.
3. The undeformed field gives the density of these intervals, at points interpolated between the probes.
4. Half of the `num_samples` intervals follow this density and half follow the first pass, because the grid is coarse
   and the field is still incomplete early in training.

Nothing here is differentiable. Distances along a ray are in metres. The scheme is our choice; the method's paper does
not publish its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from partnerface_ns.geometry.rows import Rows
from partnerface_ns.rendering.volume import running_sums, weights_from_density

_EXPECTED = 50.0
"""Density in 1/m that a possible cell has before its first update."""
_COARSE = 4
"""Cells of the occupancy grid along each side of a coarse cell."""
_MAX_PROBED = 60.0
"""Upper limit of a probe's density, 1/m. A cell is coarse and dilated, so the surface may lie behind it."""
_MAX_PROPOSED = 300.0
"""Upper limit of a proposal's density, 1/m. Deformation may move the surface some millimetres away from it."""


@dataclass
class SamplingConfig:
    """Samples of a ray, and updates of the occupancy grid."""

    RENAMED: ClassVar[dict[str, str]] = {
        "forget": "decay",
        "explore": "uniform_fraction",
        "spread": "proposal_fraction",
        "refresh_every": "update_every",
        "refresh_share": "update_fraction",
    }
    """Old names of settings, in files of earlier versions."""

    num_samples: int = 24
    """Intervals from which a ray is rendered."""
    num_probes: int = 32
    """Even steps at which a ray reads the occupancy grid."""
    num_proposals: int = 32
    """Intervals drawn from the probes, at which the undeformed field is queried."""
    max_interval: float = 0.01
    """Largest length in metres that a sample represents. Longer intervals span empty space between surfaces."""
    grid_resolution: int = 96
    """Cells along each side of the occupancy grid, a multiple of 4."""
    decay: float = 0.9
    """Factor on the density of all cells at each update."""
    uniform_fraction: float = 0.1
    """Share of proposals that is uniform over a ray's occupied probes, so that new density can be found."""
    proposal_fraction: float = 0.5
    """Share of samples that follow the proposals, whatever the field's density."""
    empty_below: float = 1.0
    """Density in 1/m below which a cell is empty and gets no samples."""
    update_every: int = 16
    """Training steps between two updates of the grid."""
    update_fraction: float = 0.125
    """Share of the possible cells whose density is computed at each update."""


class OccupancyGrid(nn.Module):
    """Recent density of each cell of the canonical box, 1/m."""

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

    @torch.no_grad()
    def mark_reached(self, points: Float[Tensor, "points 3"], transmittance: Float[Tensor, "points"]) -> None:
        """Remember the transmittance with which training rays reached samples."""
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
        cube = self.density.reshape(1, 1, *[self.resolution] * 3)
        for kernel, padding in (((3, 1, 1), (1, 0, 0)), ((1, 3, 1), (0, 1, 0)), ((1, 1, 3), (0, 0, 1))):
            cube = F.max_pool3d(cube, kernel, stride=1, padding=padding)
        self.dilated.copy_(torch.where(cube < config.empty_below, 0, cube).flatten())
        self.surroundings.copy_(self._surroundings())


class RayIntervals(NamedTuple):
    """Intervals of the rays that pass occupied cells. Under fixed shapes, all other rays have empty intervals."""

    edges: Float[Tensor, "hits edges"]
    """Distances along the ray, metres, ascending."""
    ray: Int[Tensor, "hits"]
    """Index of each row's ray."""


def propose(
    edges: Float[Tensor, "rays edges"],
    density: Float[Tensor, "rays probes"],
    config: SamplingConfig,
    jitter: bool,
    fixed: bool = False,
) -> RayIntervals:
    """Draw intervals from the occupancy grid's density.

    Args:
        edges: edges of the probes, metres along the ray.
        density: density at the probes, 1/m. Rays whose probes are all zero are left out.
        config: number of proposals and their uniform fraction.
        jitter: whether strata are sampled at random (training) or at their middle (evaluation).
        fixed: whether shapes are fixed (`geometry/rows.py`).
    """
    return _draw(edges, density.clamp(max=_MAX_PROBED), config.num_proposals, config.uniform_fraction, jitter, fixed)


def refine(
    proposed: RayIntervals,
    density: Float[Tensor, "hits proposals"],
    config: SamplingConfig,
    jitter: bool,
    fixed: bool = False,
) -> RayIntervals:
    """Draw the intervals to render from the field's density at the proposals.

    Arguments as for `propose`.
    """
    drawn = _draw(
        proposed.edges, density.clamp(max=_MAX_PROPOSED), config.num_samples, config.proposal_fraction, jitter, fixed
    )
    return RayIntervals(drawn.edges, proposed.ray[drawn.ray])


def _draw(edges: Tensor, density: Tensor, num: int, uniform: float, jitter: bool, fixed: bool) -> RayIntervals:
    """`num` intervals of each ray from its volume-rendering weights, a share `uniform` over its occupied intervals."""
    hit = Rows((density > 0).any(1), fixed)
    ray, edges, density = hit.index, hit.gather(edges), hit.gather(density)
    weights = weights_from_density(density, edges.diff(dim=1))
    reached = (density > 0).to(weights.dtype)
    pdf = weights / weights.sum(1, keepdim=True).clamp(min=1e-6)
    pdf = (1 - uniform) * pdf + uniform * reached / reached.sum(1, keepdim=True).clamp(min=1)
    cdf = F.pad(running_sums(pdf / pdf.sum(1, keepdim=True).clamp(min=1e-6)), (1, 0))
    strata = torch.arange(num + 1, device=edges.device, dtype=edges.dtype)
    shift = torch.rand(ray.shape[0], num + 1, device=edges.device) if jitter else 0.5
    u = ((strata + shift) / (num + 1)).expand(ray.shape[0], num + 1).contiguous()
    return RayIntervals(invert_piecewise_linear(edges, cdf, u), ray)


def invert_piecewise_linear(
    x: Float[Tensor, "rays knots"], y: Float[Tensor, "rays knots"], targets: Float[Tensor, "rays targets"]
) -> Float[Tensor, "rays targets"]:
    """Invert the ascending piecewise linear function through (x, y): x of each target value."""
    right = torch.searchsorted(y.contiguous(), targets, right=True).clamp(1, y.shape[1] - 1)
    y0, y1 = y.gather(1, right - 1), y.gather(1, right)
    x0, x1 = x.gather(1, right - 1), x.gather(1, right)
    share = ((targets - y0) / (y1 - y0).clamp(min=1e-9)).clamp(0, 1)
    return x0 + share * (x1 - x0)


def box_interval(
    origins: Float[Tensor, "*rays 3"],
    directions: Float[Tensor, "*rays 3"],
    lower: Float[Tensor, "*#rays 3"],
    upper: Float[Tensor, "*#rays 3"],
) -> tuple[Float[Tensor, "*rays"], Float[Tensor, "*rays"]]:
    """Distances at which each ray enters and leaves its axis-aligned box, metres; equal where the ray misses it."""
    safe = torch.where(directions.abs() < 1e-9, torch.full_like(directions, 1e-9), directions)
    first, second = (lower - origins) / safe, (upper - origins) / safe
    near = torch.minimum(first, second).amax(-1).clamp(min=0)
    far = torch.maximum(first, second).amin(-1)
    return near, torch.maximum(near, far)


def probe_edges(
    near: Float[Tensor, "rays"], far: Float[Tensor, "rays"], num_probes: int, jitter: bool
) -> Float[Tensor, "rays edges"]:
    """Even probe edges between near and far, metres; `jitter` shifts them by a random part of a probe."""
    steps = torch.linspace(0, 1, num_probes + 1, device=near.device)
    if jitter:
        steps = steps + (torch.rand(near.shape[0], 1, device=near.device) - 0.5) / num_probes
    return near[:, None] + (far - near)[:, None] * steps


def along(
    origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"], distances: Float[Tensor, "rays samples"]
) -> Float[Tensor, "rays samples 3"]:
    """Points at distances along rays."""
    return origins[:, None] + distances[..., None] * directions[:, None]


def midpoints(edges: Float[Tensor, "rays edges"]) -> Float[Tensor, "rays intervals"]:
    """Centres of intervals."""
    return (edges[:, 1:] + edges[:, :-1]) / 2


def interpolate_even(
    values: Float[Tensor, "rays knots channels"],
    first: Float[Tensor, "rays"],
    step: Float[Tensor, "rays"],
    at: Float[Tensor, "rays targets"],
) -> Float[Tensor, "rays targets channels"]:
    """Linear interpolation between even knots; beyond the ends, the value of the end.

    Args:
        values: values at the knots.
        first: distance of each ray's first knot, metres.
        step: distance between knots, metres.
        at: distances to interpolate at, metres.
    """
    knot = ((at - first[:, None]) / step[:, None].clamp(min=1e-9)).clamp(0, values.shape[1] - 1)
    below = knot.long().clamp(max=values.shape[1] - 2)
    rows = torch.arange(len(values), device=values.device)[:, None]
    return torch.lerp(values[rows, below], values[rows, below + 1], (knot - below)[..., None])
