"""Samples to pixels: canonical warp, canonical field and volume rendering of the intervals along rays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.profiler import record_function

from partnerface_ns.avatar.canonical_warp import CanonicalWarp, DeformedPoints, WarpFrames
from partnerface_ns.avatar.config import AvatarConfig
from partnerface_ns.avatar.render_output import Inspection, RenderOutput, TrainingSamples
from partnerface_ns.avatar.surface_prior import SurfaceFeatures, surface_features
from partnerface_ns.common.precision import autocast_bfloat16
from partnerface_ns.fields.canonical_field import CanonicalField
from partnerface_ns.geometry.rows import Rows
from partnerface_ns.rendering.inspection import colors_of_parts
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.rendering.sampling import OccupancyGrid, RayIntervals, along, midpoints
from partnerface_ns.rendering.volume import weights_from_density
from partnerface_ns.warp.inverse_skinning import CanonicalPoints

_NUM_RANDOM = 512
"""Random canonical points of a training step at which the deformation is kept small."""
_MIN_WEIGHT = 5e-4
"""Share of a pixel below which the colour of a sample is not computed."""


class Samples(NamedTuple):
    """Samples of the rays that pass occupied cells."""

    ray: Int[Tensor, "hits"]
    """Index of each row's ray, counted over all frames."""
    middle: Float[Tensor, "hits samples"]
    """Distance along the ray, metres."""
    delta: Float[Tensor, "hits samples"]
    """Length that each sample represents, metres."""
    points: Float[Tensor, "points 3"]
    """World frame, metres; hits and samples flattened."""
    frame: Int[Tensor, "points"]
    """Index of each point's frame."""
    on_hits: Bool[Tensor, "points"]
    """Whether the point's ray passes occupied cells. Under fixed shapes the points of all other rays are kept too."""

    @staticmethod
    def of(rays: Rays, intervals: RayIntervals, max_interval: float) -> Samples:
        """One sample in the middle of each interval.

        A long interval spans empty space, so the length of a sample is at most `max_interval` metres.
        """
        edges, ray = intervals
        middle = midpoints(edges)
        points = along(rays.origins.flatten(0, 1)[ray], rays.directions.flatten(0, 1)[ray], middle).flatten(0, 1)
        frame = ray.div(rays.origins.shape[1], rounding_mode="floor").repeat_interleave(middle.shape[1])
        on_hits = (edges[:, -1:] > edges[:, :1]).expand_as(middle).flatten()
        return Samples(ray, middle, edges.diff(dim=1).clamp(max=max_interval), points, frame, on_hits)


@dataclass(frozen=True)
class Shading:
    """Renders the samples of rays: warp, canonical field, volume rendering."""

    config: AvatarConfig
    warp: CanonicalWarp
    field: CanonicalField
    grid: OccupancyGrid
    background: Float[Tensor, "3"]

    def __call__(
        self,
        rays: Rays,
        frames: WarpFrames,
        intervals: RayIntervals,
        timesteps: Int[Tensor, "frames"] | None,
        training: bool,
    ) -> RenderOutput:
        """Render rays.

        Args:
            rays: world frame.
            frames: the posed frames.
            intervals: from `ProposalSampler`.
            timesteps: timesteps of the frames in the training capture; None for others.
            training: whether the output holds training samples in place of inspection colours.
        """
        with record_function("volume rendering"):
            return self._render(rays, frames, intervals, timesteps, training)

    def _render(
        self,
        rays: Rays,
        frames: WarpFrames,
        intervals: RayIntervals,
        timesteps: Int[Tensor, "frames"] | None,
        training: bool,
    ) -> RenderOutput:
        samples = Samples.of(rays, intervals, self.config.sampling.max_interval)
        shape = samples.middle.shape
        canonical = self.warp.to_canonical(samples.points, samples.frame, frames)
        with autocast_bfloat16(samples.points.device, self.config.bfloat16):
            deformed, random_offset = self._deformed(canonical, samples.frame, frames, training)
            surface = surface_features(self.warp.skinning.space, deformed.points)
            with record_function("canonical field"):
                geometry = self.field.geometry(deformed.points, *surface)
            density = geometry.density.reshape(shape)
            weights = weights_from_density(density, samples.delta)
            seen = Rows(weights.detach().flatten() > _MIN_WEIGHT, self.warp.fixed_shapes)
            ray_seen = seen.gather(samples.ray.repeat_interleave(shape[1]))
            in_skull = rays.directions @ frames.skinned.T_canonical_skull[:, :3, :3].mT
            directions = in_skull.flatten(0, 1)[ray_seen]
            with record_function("canonical field"):
                color = self.field.color(seen.gather(geometry.features), directions, seen.gather(deformed.ambient))

        weight_seen = seen.gather(weights.flatten() * seen.holds)[:, None]
        shape_rays = rays.origins.shape[:2]
        accumulation = _sum_on_rays(weights.sum(1, keepdim=True), samples.ray, shape_rays)
        depth = _sum_on_rays((weights * samples.middle).sum(1, keepdim=True), samples.ray, shape_rays)
        rgb = _sum_on_rays(weight_seen * color, ray_seen, shape_rays) + (1 - accumulation) * self.background
        output = RenderOutput(rgb, accumulation, depth / accumulation.clamp(min=1e-4))
        if not training:
            inspected = inspection_colors(canonical.points, deformed, self.field, self.config)
            on_rays = (_sum_on_rays(weight_seen * seen.gather(color), ray_seen, shape_rays) for color in inspected)
            return output._replace(inspection=Inspection(*on_rays))
        self.field.update_view_statistics(directions, weight_seen.detach())
        optical_depth = _sum_on_rays((density * samples.delta).sum(1, keepdim=True), samples.ray, shape_rays)
        correction = geometry.correction * surface.at_skin
        return output._replace(
            samples=TrainingSamples(
                deformed, random_offset, correction, canonical.points, samples.on_hits, optical_depth, timesteps
            )
        )

    def _deformed(
        self, canonical: CanonicalPoints, frame: Tensor, frames: WarpFrames, training: bool
    ) -> tuple[DeformedPoints, Float[Tensor, "random 3"] | None]:
        """Deformed samples; in training also the offsets of random canonical points that no ray may reach."""
        if not training or self.warp.deformation is None:
            return self.warp.deform(canonical, frame, frames.states), None
        num = len(canonical.points)
        _, random_points = self.grid.draw(_NUM_RANDOM)
        torso = torch.cat([canonical.torso, self.warp.skinning.space.torso_share(random_points)])
        both = CanonicalPoints(torch.cat([canonical.points, random_points]), torso)
        random_frame = torch.randint(len(frames.states), (len(random_points),), device=frame.device)
        deformed = self.warp.deform(both, torch.cat([frame, random_frame]), frames.states)
        of_rays = DeformedPoints(deformed.points[:num], deformed.ambient[:num], deformed.offset[:num], None)
        return of_rays, deformed.offset[num:]


def canonical_density(
    field: CanonicalField, warp: CanonicalWarp, points: Float[Tensor, "points 3"], bfloat16: bool
) -> Float[Tensor, "points"]:
    """Density of the undeformed canonical field, 1/m, at canonical points."""
    with autocast_bfloat16(points.device, bfloat16):
        surface: SurfaceFeatures = surface_features(warp.skinning.space, points)
        with record_function("canonical field"):
            return field.geometry(points, *surface).density


def inspection_colors(
    points: Float[Tensor, "points 3"], deformed: DeformedPoints, field: CanonicalField, config: AvatarConfig
) -> Inspection:
    """Colours of canonical points that show parts, deformation and position."""
    size = deformed.offset.norm(dim=-1, keepdim=True) / config.parts.offset_scale
    return Inspection(
        parts=colors_of_parts(deformed.parts, config.num_parts, points),
        deformation=size.clamp(max=1).expand(-1, 3),
        canonical=((points - field.lower) / (field.upper - field.lower)).clamp(0, 1),
    )


def _sum_on_rays(
    values: Float[Tensor, "rows channels"], ray: Int[Tensor, "rows"], shape: Sequence[int]
) -> Float[Tensor, "frames rays channels"]:
    """Sum of the values of each ray; zero for rays without values."""
    num_frames, num_rays = shape
    total = values.new_zeros(num_frames * num_rays, values.shape[1]).index_add(0, ray, values)
    return total.unflatten(0, (num_frames, num_rays))
