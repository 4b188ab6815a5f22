"""Renders one image from a view volume.

Density is read at every sample. Colour is computed at a few points that represent the visible part of the ray.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.canonical_warp import CanonicalWarp, WarpFrames
from partnerface_ns.avatar.render_output import Inspection, RenderOutput
from partnerface_ns.baked.capacity import Capacity
from partnerface_ns.baked.config import BakedConfig
from partnerface_ns.baked.sparse_image import render_sparsely
from partnerface_ns.baked.view_volume import AMBIENT, DEFORMATION, PARTS, POINTS, ViewVolume, ViewVolumeBuilder
from partnerface_ns.common.precision import autocast_bfloat16
from partnerface_ns.flame.posing import PosedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rows import Rows
from partnerface_ns.rendering.sampling import along, invert_piecewise_linear
from partnerface_ns.rendering.volume import running_sums, weights_from_density

RAYS_ON_CPU, RAYS_ON_GPU = 1 << 14, 1 << 18
"""Rays that are rendered at once. More exceed a CPU's cache or a small memory, fewer leave the device idle."""
_UNIFORM_FRACTION = 0.3
"""Weight of uniform sampling in a ray's second pass, against 1 for the weights of the first pass."""


class View(NamedTuple):
    """One image to render."""

    origin: Float[Tensor, "3"]
    """Camera centre, world frame, metres."""
    directions: Float[Tensor, "rays 3"]
    """World frame, unit length."""
    state: HeadState
    """One head state, batch axes (1,)."""
    head: PosedHead
    """The head in this state."""
    timesteps: Int[Tensor, "1"] | None
    """As for `Avatar.render`."""
    size: tuple[int, int] | None = None
    """Height and width, if the rays are the pixels of an image, row by row. Smooth areas are then interpolated."""


class RenderedView(NamedTuple):
    """One rendered image."""

    output: RenderOutput
    counts: Int[Tensor, "7"]
    """Counts of the `Capacity` that the image needs."""


class BakedRenderer:
    """Renders images of an avatar after its training."""

    def __init__(self, avatar: Avatar, config: BakedConfig) -> None:
        self.config, self._avatar = config, avatar
        self._builder = ViewVolumeBuilder(avatar, config)

    def render(self, view: View, capacity: Capacity | None = None) -> RenderedView:
        """Render an image; with a capacity no shape depends on the view."""
        avatar, num = self._avatar, RAYS_ON_GPU if view.directions.is_cuda else RAYS_ON_CPU
        warp = replace(avatar.warp, fixed_shapes=capacity is not None)
        frames = warp.pose_frames(view.state, view.timesteps, avatar.skinning.pose(view.state, view.head))
        volume = self._builder.build(view.origin, view.directions, warp, frames, capacity)
        ray_counts = torch.zeros_like(volume.counts[:2])

        def render_rays(directions: Tensor) -> RenderOutput:
            chunks = [
                self._render_chunk(view.origin, chunk, warp, frames, volume, capacity)
                for chunk in directions.split(num)
            ]
            ray_counts.add_(torch.stack([chunk.counts for chunk in chunks]).sum(0))
            return RenderOutput.cat([chunk.output for chunk in chunks])

        if view.size is None:
            output = render_rays(view.directions)
        else:
            image = view.directions.view(*view.size, 3)
            output = render_sparsely(render_rays, image, self.config.interpolated_contrast)
        return RenderedView(output, torch.cat([volume.counts, ray_counts]))

    def _render_chunk(
        self,
        origin: Tensor,
        directions: Tensor,
        warp: CanonicalWarp,
        frames: WarpFrames,
        volume: ViewVolume,
        capacity: Capacity | None,
    ) -> RenderedView:
        avatar, lattice, density = self._avatar, volume.lattice, self._builder.density
        column, position = lattice.columns(directions)
        row = torch.where(column < 0, -1, volume.row[column])
        hit = Rows(row >= 0, warp.fixed_shapes, None if capacity is None else capacity.hit)
        row, position, hit_directions = hit.gather(row).clamp(min=0), hit.gather(position), hit.gather(directions)
        distance, length = volume.distance[row], volume.length[row]
        contracted = lattice.read(volume.values[POINTS], position, distance)
        at_opening = volume.exact[hit.gather(column).clamp(min=0)] & hit.gather(hit.holds)
        at_opening &= self._builder.deformation.contains(contracted).any(1)  # hair may hide mouth and eyes
        exact = Rows(at_opening, warp.fixed_shapes, None if capacity is None else capacity.exact)
        counts = torch.stack([hit.holds.sum(), at_opening.sum()])
        if len(exact.index):
            exact_directions = exact.gather(hit_directions)
            # The first pass has half as many samples.
            coarse, coarse_length = F.avg_pool1d(exact.gather(distance), 2), 2 * F.avg_pool1d(exact.gather(length), 2)
            first = self._warp_samples(origin, exact_directions, coarse, warp, frames, volume)
            at, at_length = self._resample(
                coarse, coarse_length, weights_from_density(density.at(first), coarse_length)
            )
            second = self._warp_samples(origin, exact_directions, at, warp, frames, volume)
            contracted = exact.scatter(contracted, second)
            distance, length = exact.scatter(distance, at), exact.scatter(length, at_length)
        weights = weights_from_density(density.at(contracted), length)
        opacity = weights.sum(1, keepdim=True)
        depth = (weights * distance).sum(1, keepdim=True) / opacity.clamp(min=1e-4)
        # Values that vary slowly are read at the ray's depth.
        at_depth = lattice.read(volume.values, position, depth)[:, 0]
        parts, size, ambient = at_depth[:, PARTS], at_depth[:, DEFORMATION], at_depth[:, AMBIENT]
        contracted = quantiles(contracted, weights, self.config.num_colors)
        color = self._color(contracted, ambient, hit_directions, frames)

        on_rays = lambda values: hit.scatter(values.new_zeros(len(directions), values.shape[1]), values)  # noqa: E731
        accumulation = on_rays(opacity)
        rgb = on_rays(opacity * color) + (1 - accumulation) * avatar.background
        field = avatar.field
        canonical = (field.uncontract(contracted.mean(1)) - field.lower) / (field.upper - field.lower)
        inspected = (on_rays(opacity * color) for color in (parts, size.expand(-1, 3), canonical))
        return RenderedView(RenderOutput(rgb, accumulation, on_rays(depth), Inspection(*inspected)), counts)

    def _warp_samples(
        self,
        origin: Tensor,
        directions: Tensor,
        distance: Tensor,
        warp: CanonicalWarp,
        frames: WarpFrames,
        volume: ViewVolume,
    ) -> Float[Tensor, "rays samples 3"]:
        """Contracted points of samples, each skinned and deformed by itself."""
        points = along(origin.expand(len(directions), -1), directions, distance)
        contracted = self._builder.to_contracted(points.flatten(0, 1), warp, frames)
        return self._builder.deformation.deform(volume.offsets, contracted).view_as(points)

    def _resample(self, distance: Tensor, length: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Distances and lengths of a second pass, drawn from the weights of the first one."""
        share = weights / weights.sum(1, keepdim=True).clamp(min=1e-6) + _UNIFORM_FRACTION / weights.shape[1]
        cdf = F.pad(running_sums(share / share.sum(1, keepdim=True)), (1, 0))
        ends = distance[:, -1:] + length[:, -1:] / 2
        edges = torch.cat([distance - length / 2, ends], 1)
        u = torch.linspace(0, 1, 2 * self.config.num_samples + 1, device=cdf.device).expand(len(cdf), -1)
        at = invert_piecewise_linear(edges, cdf, u.contiguous())
        return at[:, 1::2], at[:, ::2].diff(dim=1).clamp(max=self._avatar.config.sampling.max_interval)

    def _color(
        self,
        contracted: Float[Tensor, "rays colors 3"],
        ambient: Float[Tensor, "rays ambient"],
        directions: Float[Tensor, "rays 3"],
        frames: WarpFrames,
    ) -> Float[Tensor, "rays 3"]:
        """Mean colour of each ray's points."""
        field, num = self._avatar.field, contracted.shape[1]
        directions_skull = directions @ frames.skinned.T_canonical_skull[0, :3, :3].T
        with autocast_bfloat16(contracted.device, self._avatar.config.bfloat16):
            features = field.features(contracted.flatten(0, 1))
            color = field.color(features, *(x.repeat_interleave(num, 0) for x in (directions_skull, ambient)))
        return color.view(-1, num, 3).mean(1)


def quantiles(
    points: Float[Tensor, "rays samples 3"], weights: Float[Tensor, "rays samples"], num: int
) -> Float[Tensor, "rays num 3"]:
    """Points along each ray at the quantiles of its weights, interpolated between samples."""
    cdf = F.pad(running_sums(weights), (1, 0))
    total = cdf[:, -1:].clamp(min=1e-9)
    shares = (torch.arange(num, device=points.device) + 0.5) / num * total
    edges = torch.arange(cdf.shape[1], device=points.device, dtype=cdf.dtype) - 0.5
    at = invert_piecewise_linear(edges.expand_as(cdf).contiguous(), cdf, shares).clamp(0, weights.shape[1] - 1)
    below = at.long().clamp(max=weights.shape[1] - 2)
    rows = torch.arange(len(points), device=points.device)[:, None]
    return torch.lerp(points[rows, below], points[rows, below + 1], (at - below)[..., None])
