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
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.geometry.rows import Rows
from partnerface_ns.rendering.volume import running_sums, weights_from_density

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
