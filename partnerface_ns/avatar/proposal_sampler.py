"""Ray sampling in two passes: the occupancy grid proposes intervals, the canonical field's density refines them.

The first pass probes each ray at even steps and reads the occupancy grid at the canonical place of each probe. The
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
from partnerface_ns.geometry.rigid import transform_points
from partnerface_ns.geometry.rows import Rows
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.rendering.sampling import (
    OccupancyGrid,
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
    """Rays of posed frames to the intervals that are rendered."""

    config: SamplingConfig
    grid: OccupancyGrid
    warp: CanonicalWarp
    density: Callable[[Float[Tensor, "points 3"]], Float[Tensor, "points"]]
    """Density of the undeformed canonical field, 1/m."""
    padding: float
    """Metres around the posed mesh that a ray can meet anything in."""

    @torch.no_grad()
    def __call__(self, rays: Rays, frames: WarpFrames, jitter: bool) -> RayIntervals:
        """Intervals along the rays that meet anything; rays of one frame lie together, in the order of the frames.

        Args:
            rays: world frame.
            frames: the posed frames.
            jitter: whether samples lie at random places of their strata, as in training.
        """
        with record_function("ray sampling"):
            return self._intervals(rays, frames, jitter)

    def _intervals(self, rays: Rays, frames: WarpFrames, jitter: bool) -> RayIntervals:
        verts, config = frames.skinned.verts, self.config
        lower, upper = verts.amin(1) - self.padding, verts.amax(1) + self.padding
        near, far = box_interval(rays.origins, rays.directions, lower[rays.frame], upper[rays.frame])
        edges = probe_edges(near, far, config.num_probes, jitter)
        middle = midpoints(edges)
        near_person = Rows((self._near_occupied(rays, frames, middle) & (near < far)[:, None]).flatten())
        points = near_person.of(along(rays.origins, rays.directions, middle).flatten(0, 1))
        frame = near_person.of(rays.frame.repeat_interleave(middle.shape[1]))
        probed = self.warp.to_canonical(points, frame, frames).points
        nothing = middle.new_zeros(middle.numel(), 3)
        density = near_person.into(nothing[:, 0], self.grid.probe(probed)).view(middle.shape)
        canonical = near_person.into(nothing, probed).view(*middle.shape, 3)
        proposed = propose(edges, density, config, jitter)
        # Inverse skinning is smooth along a ray: the canonical places of proposals are interpolated from the probes'.
        hit = proposed.ray
        step = edges[hit, 1] - edges[hit, 0]
        places = interpolate_even(canonical[hit], middle[hit, 0], step, midpoints(proposed.edges))
        return refine(proposed, self.density(places.flatten(0, 1)).view(places.shape[:2]), config, jitter)

    def _near_occupied(
        self, rays: Rays, frames: WarpFrames, middle: Float[Tensor, "rays probes"]
    ) -> Bool[Tensor, "rays probes"]:
        """Probes near occupied cells. Most probes are far from the person, and the two rigid bones alone show that."""
        near = torch.zeros_like(middle, dtype=torch.bool)
        for T in (frames.skinned.T_canonical_skull[rays.frame], frames.skinned.T_canonical_torso[rays.frame]):
            directions = torch.einsum("rab,rb->ra", T[:, :3, :3], rays.directions)
            near |= self.grid.near_occupied(along(transform_points(T, rays.origins), directions, middle))
        return near
