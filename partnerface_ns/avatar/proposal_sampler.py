"""Ray sampling in two passes: the occupancy grid proposes intervals, the canonical field's density refines them.

The first pass probes each ray at even steps and reads the occupancy grid at the canonical point of each probe. The
second pass queries the undeformed canonical field at the proposals. `rendering/sampling.py` draws the intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.profiler import record_function

from partnerface_ns.avatar.canonical_warp import CanonicalWarp, WarpFrames
from partnerface_ns.geometry.rows import Rows
from partnerface_ns.rendering.occupancy import OccupancyGrid
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.rendering.sampling import (
    RayIntervals,
    SamplingConfig,
    along,
    box_interval,
    interpolate_even,
    midpoints,
    probe_edges,
    propose,
    refine,
)


@dataclass(frozen=True)
class ProposalSampler:
    """Turns rays of posed frames into the intervals that are rendered."""

    config: SamplingConfig
    grid: OccupancyGrid
    warp: CanonicalWarp
    density: Callable[[Float[Tensor, "points 3"]], Float[Tensor, "points"]]
    """Density of the undeformed canonical field, 1/m."""
    padding: float
    """Margin around the posed mesh in which density may be, metres."""

    @torch.no_grad()
    def __call__(self, rays: Rays, frames: WarpFrames, jitter: bool) -> RayIntervals:
        """Intervals of the rays that pass occupied cells. Ray indices count over all frames.

        Args:
            rays: world frame.
            frames: the posed frames.
            jitter: whether samples are random within their strata, as in training.
        """
        with record_function("ray sampling"):
            return self._intervals(rays, frames, jitter)

    def _intervals(self, rays: Rays, frames: WarpFrames, jitter: bool) -> RayIntervals:
        verts, config, fixed = frames.skinned.verts, self.config, self.warp.fixed_shapes
        lower, upper = verts.amin(1) - self.padding, verts.amax(1) + self.padding
        near, far = box_interval(rays.origins, rays.directions, lower[:, None], upper[:, None])
        edges = probe_edges(near.flatten(), far.flatten(), config.num_probes, jitter)
        middle = midpoints(edges)
        meets_box = (near < far).flatten()[:, None]
        near_person = Rows((self._near_occupied(rays, frames, middle) & meets_box).flatten(), fixed)
        points = near_person.gather(
            along(rays.origins.flatten(0, 1), rays.directions.flatten(0, 1), middle).flatten(0, 1)
        )
        probes_per_frame = middle.numel() // len(verts)
        frame = near_person.index.div(probes_per_frame, rounding_mode="floor")
        probed = self.warp.to_canonical(points, frame, frames).points
        zeros = middle.new_zeros(middle.numel(), 3)
        density = near_person.scatter(zeros[:, 0], self.grid.probe(probed)).view(middle.shape)
        canonical = near_person.scatter(zeros, probed).view(*middle.shape, 3)
        proposed = propose(edges, density, config, jitter, fixed)
        # Inverse skinning is smooth along a ray: canonical positions of proposals are interpolated between probes.
        hit = proposed.ray
        step = edges[hit, 1] - edges[hit, 0]
        points = interpolate_even(canonical[hit], middle[hit, 0], step, midpoints(proposed.edges))
        return refine(proposed, self.density(points.flatten(0, 1)).view(points.shape[:2]), config, jitter, fixed)

    def _near_occupied(
        self, rays: Rays, frames: WarpFrames, middle: Float[Tensor, "all_rays probes"]
    ) -> Bool[Tensor, "all_rays probes"]:
        """Probes near occupied cells. Most probes are far from the person, and the two rigid bones alone show that."""
        near = torch.zeros_like(middle, dtype=torch.bool)
        for T in (frames.skinned.T_canonical_skull, frames.skinned.T_canonical_torso):
            origins, directions = transform_rays(T, rays.origins, rays.directions)
            near |= self.grid.near_occupied(along(origins.flatten(0, 1), directions.flatten(0, 1), middle))
        return near


def transform_rays(
    T: Float[Tensor, "frames 4 4"],
    origins: Float[Tensor, "frames rays 3"],
    directions: Float[Tensor, "frames rays 3"],
) -> tuple[Float[Tensor, "frames rays 3"], Float[Tensor, "frames rays 3"]]:
    """Apply one rigid transform to the rays of each frame."""
    R = T[:, :3, :3].mT
    return origins @ R + T[:, None, :3, 3], directions @ R
