"""Where along a ray to look: remembered canonical density, then the field's own, turned into samples near surfaces.

A ray is probed at `num_probes` even steps; the probes go through inverse skinning and look up the density that was
last found at their canonical place. The probes are volume-rendered, and `num_proposals` intervals are drawn from their
weights by inverse transform sampling. The canonical field, before any deformation, says how dense it is in these, at
places interpolated between the probes'; half of the `num_samples` intervals are drawn from that and half as the
proposals were, because the memory is coarse and the field has not found all surfaces yet. Nothing here is
differentiable. Positions along a ray are metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from partnerface_ns.geometry.rows import Rows
from partnerface_ns.rendering.volume import running_sums, weights_from_density

_EXPECTED = 50.0
"""Density in 1/m that a possible cell is expected to have before it was ever looked at."""
_COARSE = 4
"""Cells of the density grid along a side of a coarse cell."""
_MAX_PROBED = 60.0
"""Density in 1/m that a probe counts for at most: a cell is widened and coarse, and the surface may lie behind it."""
_MAX_PROPOSED = 300.0
"""The same of a proposed interval: deformation may move the surface a few millimetres away from it."""


@dataclass
class SamplingConfig:
    """How many samples a ray gets and how density is remembered."""

    num_samples: int = 24
    """Intervals a ray is rendered from."""
    num_probes: int = 32
    """Even steps at which a ray looks up remembered density."""
    num_proposals: int = 32
    """Intervals drawn from the probes, in which the field is asked where the samples should go."""
    max_interval: float = 0.01
    """Length in metres that a sample stands for at most; longer intervals are emptiness between surfaces."""
    grid_resolution: int = 96
    """Cells a side of the density grid."""
    forget: float = 0.9
    """Factor on all remembered density at each refresh."""
    explore: float = 0.1
    """Share of proposals spread evenly over a ray's occupied probes, so that new density can be found."""
    spread: float = 0.5
    """Share of samples that go where the proposals went, whatever the field says of these."""
    empty_below: float = 1.0
    """Density in 1/m under which a cell counts as empty and is not sampled."""
    refresh_every: int = 16
    """Training steps between two refreshes of the grid."""
    refresh_share: float = 0.125
    """Share of the possible cells whose density is computed anew at each refresh."""


class OccupancyGrid(nn.Module):
    """Density remembered over the canonical box."""

    possible: Tensor
    density: Tensor
    widened: Tensor
    surroundings: Tensor

    def __init__(
        self, resolution: int, lower: Float[Tensor, "3"], upper: Float[Tensor, "3"], possible: Bool[Tensor, "cells"]
    ) -> None:
        """
        Args:
            resolution: cells a side, a multiple of 4.
            lower: lower corner of the box, metres.
            upper: its upper corner.
            possible: cells in which there may be matter, flattened over x, y, z.
        """
        super().__init__()
        self.resolution = resolution
        self.register_buffer("lower", lower.clone())
        self.register_buffer("upper", upper.clone())
        self.register_buffer("possible", possible.nonzero()[:, 0])
        initial = _EXPECTED * possible.float()
        self.register_buffer("density", initial)
        self.register_buffer("widened", initial.clone())
        self.register_buffer("surroundings", self._surroundings())

    @staticmethod
    def cell_centers(resolution: int, lower: Float[Tensor, "3"], upper: Float[Tensor, "3"]) -> Float[Tensor, "cells 3"]:
        """Centres of all cells of a box, metres, flattened over x, y, z."""
        axes = [torch.linspace(0.5 / resolution, 1 - 0.5 / resolution, resolution, device=lower.device)] * 3
        cells = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        return lower + cells * (upper - lower)

    def probe(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
        """Remembered density, widened by one cell; zero outside the box."""
        return self._look_up(self.widened, self.resolution, points)

    def near_occupied(self, points: Float[Tensor, "*batch 3"]) -> Bool[Tensor, "*batch"]:
        """Whether a point is within about eight cells of matter: a face that moves does not leave that distance."""
        return self._look_up(self.surroundings, self.resolution // _COARSE, points) > 0

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        # Another person has another number of possible cells.
        stored = state_dict.get(prefix + "possible")
        if stored is not None:
            self.possible = torch.empty_like(stored, device=self.possible.device)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _look_up(self, values: Tensor, resolution: int, points: Tensor) -> Tensor:
        scaled = (points - self.lower) * (resolution / (self.upper - self.lower))
        cell = scaled.long().clamp(0, resolution - 1)
        inside = ((scaled > 0) & (scaled < resolution)).all(-1)
        return values[(cell[..., 0] * resolution + cell[..., 1]) * resolution + cell[..., 2]] * inside

    def _surroundings(self) -> Float[Tensor, "coarse_cells"]:
        cube = F.max_pool3d(self.widened.reshape(1, 1, *[self.resolution] * 3), _COARSE)
        return F.max_pool3d(cube, 5, stride=1, padding=2).flatten()

    def draw(self, num: int) -> tuple[Int[Tensor, "cells"], Float[Tensor, "cells 3"]]:
        """Random possible cells, and a random point in each."""
        index = self.possible[torch.randint(self.possible.shape[0], (num,), device=self.possible.device)]
        r = self.resolution
        corner = torch.stack([index // (r * r), index // r % r, index % r], -1)
        return index, self.lower + (corner + torch.rand(num, 3, device=index.device)) * (self.upper - self.lower) / r

    @torch.no_grad()
    def remember(
        self,
        index: Int[Tensor, "cells"],
        density: Float[Tensor, "cells"],
        config: SamplingConfig,
        counts: Bool[Tensor, ""] | None = None,
    ) -> None:
        """Forget a little everywhere, take in densities found in cells, and widen the result by one cell.

        Args:
            index: the cells.
            density: found in them, 1/m; if any is not finite, nothing changes.
            config: says how much is forgotten.
            counts: whether anything changes, on the grid's device; None is yes.
        """
        finite = density.isfinite().all()
        counts = finite if counts is None else finite & counts
        self.density.mul_(torch.where(counts, config.forget, 1.0))
        self.density.scatter_reduce_(0, index, torch.where(counts, density, 0.0), "amax")
        cube = self.density.reshape(1, 1, *[self.resolution] * 3)
        for kernel, padding in (((3, 1, 1), (1, 0, 0)), ((1, 3, 1), (0, 1, 0)), ((1, 1, 3), (0, 0, 1))):
            cube = F.max_pool3d(cube, kernel, stride=1, padding=padding)
        self.widened.copy_(torch.where(cube < config.empty_below, 0, cube).flatten())
        self.surroundings.copy_(self._surroundings())


class RayIntervals(NamedTuple):
    """Edges of the intervals of those rays that meet anything; those of other rays, if they are kept, are empty."""

    edges: Float[Tensor, "hits edges"]
    """Distances along the ray, metres, ascending."""
    ray: Int[Tensor, "hits"]
    """Which ray each row belongs to."""


def propose(
    edges: Float[Tensor, "rays edges"],
    density: Float[Tensor, "rays probes"],
    config: SamplingConfig,
    jitter: bool,
    fixed: bool = False,
) -> RayIntervals:
    """Draw intervals from remembered density.

    Args:
        edges: of the probes, metres along the ray.
        density: remembered at the probes, 1/m; a ray whose probes are all zero is left out.
        jitter: random places within strata (training) or the strata's middle (evaluation).
    """
    return _draw(edges, density.clamp(max=_MAX_PROBED), config.num_proposals, config.explore, jitter, fixed)


def refine(
    proposed: RayIntervals,
    density: Float[Tensor, "hits proposals"],
    config: SamplingConfig,
    jitter: bool,
    fixed: bool = False,
) -> RayIntervals:
    """Draw the intervals that are rendered from the field's density in proposed ones; arguments as for `propose`."""
    drawn = _draw(proposed.edges, density.clamp(max=_MAX_PROPOSED), config.num_samples, config.spread, jitter, fixed)
    return RayIntervals(drawn.edges, proposed.ray[drawn.ray])


def _draw(edges: Tensor, density: Tensor, num: int, evenly: float, jitter: bool, fixed: bool) -> RayIntervals:
    """`num` intervals of each ray from its volume-rendering weights, a share `evenly` over all that is not empty."""
    hit = Rows((density > 0).any(1), fixed)
    ray, edges, density = hit.index, hit.gather(edges), hit.gather(density)
    weights = weights_from_density(density, edges.diff(dim=1))
    reached = (density > 0).to(weights.dtype)
    pdf = weights / weights.sum(1, keepdim=True).clamp(min=1e-6)
    pdf = (1 - evenly) * pdf + evenly * reached / reached.sum(1, keepdim=True).clamp(min=1)
    cdf = F.pad(running_sums(pdf / pdf.sum(1, keepdim=True).clamp(min=1e-6)), (1, 0))
    strata = torch.arange(num + 1, device=edges.device, dtype=edges.dtype)
    shift = torch.rand(ray.shape[0], num + 1, device=edges.device) if jitter else 0.5
    u = ((strata + shift) / (num + 1)).expand(ray.shape[0], num + 1).contiguous()
    return RayIntervals(invert_piecewise_linear(edges, cdf, u), ray)


def invert_piecewise_linear(
    x: Float[Tensor, "rays knots"], y: Float[Tensor, "rays knots"], targets: Float[Tensor, "rays targets"]
) -> Float[Tensor, "rays targets"]:
    """x at which the ascending piecewise linear function through (x, y) takes each target value."""
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
    """Even probe edges between near and far, shifted by a random part of a probe where `jitter` is set."""
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
    """Middles of intervals."""
    return (edges[:, 1:] + edges[:, :-1]) / 2


def interpolate_even(
    values: Float[Tensor, "rays knots channels"],
    first: Float[Tensor, "rays"],
    step: Float[Tensor, "rays"],
    at: Float[Tensor, "rays targets"],
) -> Float[Tensor, "rays targets channels"]:
    """Values between even knots, linearly; beyond the ends those of the ends.

    Args:
        values: at the knots.
        first: where each ray's first knot lies, metres.
        step: from knot to knot, metres.
        at: where to interpolate, metres.
    """
    place = ((at - first[:, None]) / step[:, None].clamp(min=1e-9)).clamp(0, values.shape[1] - 1)
    below = place.long().clamp(max=values.shape[1] - 2)
    rows = torch.arange(len(values), device=values.device)[:, None]
    return torch.lerp(values[rows, below], values[rows, below + 1], (place - below)[..., None])
