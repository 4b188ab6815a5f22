"""Samples to pixels: canonical warp, canonical field and volume rendering of the intervals along rays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
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
from partnerface_ns.rendering.occupancy import OccupancyGrid
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.rendering.sampling import RayIntervals, along, midpoints
from partnerface_ns.rendering.volume import running_sums, weights_from_density
from partnerface_ns.warp.inverse_skinning import CanonicalPoints

_NUM_RANDOM = 512
"""Random canonical points of a training step at which the deformation is kept small."""
_MIN_WEIGHT = 5e-4
"""Share of a pixel below which the colour of a sample is not computed."""
_OPAQUE = 7.0
"""Optical depth in evaluation behind which samples are left out. All of them together would change a colour by less
than a thousandth."""
_SAMPLES_AT_ONCE = 4
"""Samples of a ray that are computed at once in evaluation on a CPU. Rays that are opaque then have no more."""


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


class Shaded(NamedTuple):
    """Sums over the samples of each ray."""

    rgb: Float[Tensor, "frames rays 3"]
    """Colour over black."""
    accumulation: Float[Tensor, "frames rays 1"]
    """Opacity."""
    depth: Float[Tensor, "frames rays 1"]
    """Distance times opacity, metres."""
    optical_depth: Float[Tensor, "hits"]
    """Optical depth of these samples, for each of the rays that have samples."""
    inspection: Inspection | None = None
    """Inspection colours over black; None in training."""
    samples: TrainingSamples | None = None
    """None in evaluation."""

    def add(self, behind: Shaded) -> Shaded:
        """Add samples behind these, in evaluation; the optical depth is that of the samples behind."""
        assert self.inspection is not None and behind.inspection is not None
        sums = (a + b for a, b in zip(self[:3], behind[:3], strict=True))
        inspection = Inspection(*(a + b for a, b in zip(self.inspection, behind.inspection, strict=True)))
        return Shaded(*sums, optical_depth=behind.optical_depth, inspection=inspection)


@dataclass(frozen=True)
class Shading:
    """Renders the samples of rays: warp, canonical field, volume rendering."""

    config: AvatarConfig
    warp: CanonicalWarp
    field: CanonicalField
    grid: OccupancyGrid
    background: Float[Tensor, "3"]
    view_noise: float
    """Standard deviation along each axis of noise on unit view directions in training."""

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
            if training:
                before = intervals.edges.new_zeros(len(intervals.ray))
                shaded = self._shade(rays, frames, intervals, before, timesteps, training)
            else:
                shaded = self._shade_front_to_back(rays, frames, intervals)
            rgb = shaded.rgb + (1 - shaded.accumulation) * self.background
            depth = shaded.depth / shaded.accumulation.clamp(min=1e-4)
            return RenderOutput(rgb, shaded.accumulation, depth, shaded.inspection, shaded.samples)

    def _shade_front_to_back(self, rays: Rays, frames: WarpFrames, intervals: RayIntervals) -> Shaded:
        """Shade a few samples of each ray at once, front to back, without rays that are opaque already."""
        edges, ray = intervals
        num_samples, fixed = edges.shape[1] - 1, self.warp.fixed_shapes
        # A GPU is not busy with a few samples.
        at_once = num_samples if fixed or edges.is_cuda else _SAMPLES_AT_ONCE
        before, shaded = edges.new_zeros(len(ray)), None
        for first in range(0, num_samples, at_once):
            visible = Rows(before < _OPAQUE, fixed)
            part = RayIntervals(visible.gather(edges[:, first : first + at_once + 1]), visible.gather(ray))
            block = self._shade(rays, frames, part, visible.gather(before), None, training=False)
            before = before.index_add(0, visible.index, block.optical_depth)
            shaded = block if shaded is None else shaded.add(block)
        assert shaded is not None
        return shaded

    def _shade(
        self,
        rays: Rays,
        frames: WarpFrames,
        intervals: RayIntervals,
        before: Float[Tensor, "hits"],
        timesteps: Int[Tensor, "frames"] | None,
        training: bool,
    ) -> Shaded:
        """Shade all samples of intervals; arguments as for `__call__`.

        Args:
            before: optical depth in front of each ray's first interval.
        """
        samples = Samples.of(rays, intervals, self.config.sampling.max_interval)
        shape = samples.middle.shape
        canonical = self.warp.to_canonical(samples.points, samples.frame, frames)
        with autocast_bfloat16(samples.points.device, self.config.bfloat16):
            deformed, random_offset = self._deformed(canonical, samples.frame, frames, training)
            surface = surface_features(self.warp.skinning.space, deformed.points)
            with record_function("canonical field"):
                geometry = self.field.geometry(deformed.points, *surface)
            density = geometry.density.reshape(shape)
            weights = weights_from_density(density, samples.delta) * torch.exp(-before)[:, None]
            if training:
                in_front = running_sums((density * samples.delta).detach()) - (density * samples.delta).detach()
                self.grid.mark_reached(deformed.points.detach(), torch.exp(-in_front).flatten() * samples.on_hits)
            seen = Rows(weights.detach().flatten() > _MIN_WEIGHT, self.warp.fixed_shapes)
            ray_seen = seen.gather(samples.ray.repeat_interleave(shape[1]))
            in_skull = rays.directions @ frames.skinned.T_canonical_skull[:, :3, :3].mT
            directions = in_skull.flatten(0, 1)[ray_seen]
            viewed = directions  # the field's view statistics are those of the rays, without noise
            if training and self.view_noise > 0:
                noise = self.view_noise * torch.randn_like(in_skull).flatten(0, 1)[ray_seen]
                in_mouth = self.warp.skinning.mouth_share(seen.gather(deformed.points.detach()))
                viewed = F.normalize(directions + (1 - in_mouth)[:, None] * noise, dim=-1)
            with record_function("canonical field"):
                features, ambient = seen.gather_columns(geometry.features), seen.gather(deformed.ambient)
                color = self.field.color(features, viewed, ambient)

        weight_seen = seen.gather(weights.flatten() * seen.holds)[:, None]
        shape_rays = rays.origins.shape[:2]
        optical_depth = (density * samples.delta).sum(1)
        shaded = Shaded(
            rgb=_sum_on_rays(weight_seen * color, ray_seen, shape_rays),
            accumulation=_sum_on_rays(weights.sum(1, keepdim=True), samples.ray, shape_rays),
            depth=_sum_on_rays((weights * samples.middle).sum(1, keepdim=True), samples.ray, shape_rays),
            optical_depth=optical_depth,
        )
        if not training:
            inspected = inspection_colors(canonical.points, deformed, self.field, self.config)
            on_rays = (_sum_on_rays(weight_seen * seen.gather(color), ray_seen, shape_rays) for color in inspected)
            return shaded._replace(inspection=Inspection(*on_rays))
        self.field.update_view_statistics(directions, weight_seen.detach())
        depth_of_rays = _sum_on_rays(optical_depth[:, None], samples.ray, shape_rays)
        heights = surface.height.detach().view(shape)
        height_of_rays = _sum_on_rays((weights * heights).sum(1, keepdim=True), samples.ray, shape_rays)
        correction = geometry.correction * surface.at_skin
        return shaded._replace(
            samples=TrainingSamples(
                deformed,
                random_offset,
                correction,
                canonical.points,
                samples.on_hits,
                depth_of_rays,
                height_of_rays,
                timesteps,
            )
        )

    def _deformed(
        self, canonical: CanonicalPoints, frame: Tensor, frames: WarpFrames, training: bool
    ) -> tuple[DeformedPoints, Float[Tensor, "random 3"] | None]:
        """Deformed samples; in training also the offsets of random canonical points that no ray may reach.

        Random points receive the whole deformation in every stage. Otherwise, networks at the edge of the mouth stage
        would learn offsets of a centimetre, because images hardly show them yet. These offsets would appear at once in
        the hard stage.
        """
        if not training or self.warp.deformation is None:
            return self.warp.deform(canonical, frame, frames.states), None
        num, warp = len(canonical.points), self.warp
        _, random_points = self.grid.draw(_NUM_RANDOM)
        random = CanonicalPoints(random_points, warp.skinning.space.torso_share(random_points))
        share = torch.cat([warp.deformation_share(canonical), warp.deformation_share(random, everywhere=True)])
        both = CanonicalPoints(torch.cat([canonical.points, random.points]), torch.cat([canonical.torso, random.torso]))
        random_frame = torch.randint(len(frames.states), (len(random_points),), device=frame.device)
        deformed = warp.deform(both, torch.cat([frame, random_frame]), frames.states, share)
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
