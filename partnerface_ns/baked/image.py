"""Draws one image of an avatar's scene: every ray's samples are interpolated, their density is read, and colour is
computed at a few places that stand for what the ray sees.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.canonical_warp import WarpFrames
from partnerface_ns.avatar.render_output import Inspection, RenderOutput
from partnerface_ns.baked.capacity import Capacity
from partnerface_ns.baked.config import BakedConfig
from partnerface_ns.baked.scene import Scene, Scenes
from partnerface_ns.common.precision import autocast_bfloat16
from partnerface_ns.flame.posing import PosedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rows import Rows
from partnerface_ns.rendering.sampling import along, invert_piecewise_linear
from partnerface_ns.rendering.volume import running_sums, weights_from_density

RAYS_ON_CPU, RAYS_ON_GPU = 1 << 14, 1 << 18
"""Rays rendered at once: enough to keep the device busy, few enough for a small memory (and a CPU's cache)."""
_LOOK_AROUND = 0.3
"""Of a ray's second look, how much is spread evenly over its first places for each 1 that goes where they saw most."""


class View(NamedTuple):
    """One image to draw."""

    origin: Float[Tensor, "3"]
    directions: Float[Tensor, "rays 3"]
    state: HeadState
    head: PosedHead
    """In this state."""
    timesteps: Int[Tensor, "1"] | None


class Drawn(NamedTuple):
    """An image."""

    output: RenderOutput
    counts: Int[Tensor, "7"]
    """The `Capacity` that it takes."""


class Painter:
    """Draws images of an avatar that is no longer trained."""

    def __init__(self, avatar: Avatar, config: BakedConfig) -> None:
        self.config, self._avatar = config, avatar
        self._scenes = Scenes(avatar, config)

    def draw(self, view: View, room: Capacity | None = None) -> Drawn:
        """The image; `room` is what `fixed_shapes` fixes of it."""
        avatar, num = self._avatar, RAYS_ON_GPU if view.directions.is_cuda else RAYS_ON_CPU
        frames = avatar.warp.frames(view.state, view.timesteps, avatar.skinning.posed(view.state, view.head))
        scene = self._scenes.of(view.origin, view.directions, frames, room)
        chunks = [self._shaded(view.origin, part, frames, scene, room) for part in view.directions.split(num)]
        output = RenderOutput.cat([chunk.output for chunk in chunks])
        return Drawn(output, torch.cat([scene.counts, sum(chunk.counts for chunk in chunks)]))

    def _shaded(
        self, origin: Tensor, directions: Tensor, frames: WarpFrames, scene: Scene, room: Capacity | None
    ) -> Drawn:
        avatar, lattice = self._avatar, scene.lattice
        num_ambient = scene.values.shape[0] - 7
        column, place = lattice.columns(directions)
        row = torch.where(column < 0, -1, scene.row[column])
        hit = Rows(row >= 0, room and room.hit)
        row, place, directions_hit = hit.of(row).clamp(min=0), hit.of(place), hit.of(directions)
        distance, length = scene.distance[row], scene.length[row]
        spaced = lattice.read(scene.values[:3], place, distance)
        at_split = scene.exact[hit.of(column).clamp(min=0)] & hit.of(hit.holds)
        at_split &= self._scenes.deformation.holds(spaced).any(1)  # hair may hide them
        exact = Rows(at_split, room and room.exact)
        counts = torch.stack([hit.holds.sum(), at_split.sum()])
        if len(exact.index):
            followed, at, apart = exact.of(directions_hit), exact.of(distance), exact.of(length)
            # Half as many show where to look.
            coarse, wide = F.avg_pool1d(at, 2), 2 * F.avg_pool1d(apart, 2)
            first = self._followed(origin, followed, coarse, frames, scene)
            at, apart = self._looked_again(coarse, wide, weights_from_density(self._scenes.density.at(first), wide))
            spaced = exact.into(spaced, self._followed(origin, followed, at, frames, scene))
            distance, length = exact.into(distance, at), exact.into(length, apart)
        weights = weights_from_density(self._scenes.density.at(spaced), length)
        opacity = weights.sum(1, keepdim=True)
        depth = (weights * distance).sum(1, keepdim=True) / opacity.clamp(min=1e-4)
        # What varies slowly is read where a ray sees most.
        parts, size, ambient = lattice.read(scene.values[3:], place, depth)[:, 0].split([3, 1, num_ambient], 1)
        spaced = quantiles(spaced, weights, self.config.num_colors)
        color = self._color(spaced, ambient, directions_hit, frames)

        on_rays = lambda values: hit.into(values.new_zeros(len(directions), values.shape[1]), values)  # noqa: E731
        accumulation = on_rays(opacity)
        rgb = on_rays(opacity * color) + (1 - accumulation) * avatar.get_buffer("background")
        field = avatar.field
        canonical = (field.places(spaced.mean(1)) - field.lower) / (field.upper - field.lower)
        inspected = (on_rays(opacity * color) for color in (parts, size.expand(-1, 3), canonical))
        return Drawn(RenderOutput(rgb, accumulation, on_rays(depth), Inspection(*inspected)), counts)

    def _followed(
        self, origin: Tensor, directions: Tensor, distance: Tensor, frames: WarpFrames, scene: Scene
    ) -> Float[Tensor, "rays samples 3"]:
        """Places of samples after skinning and deformation of each, in the field's spacing."""
        at = along(origin.expand(len(directions), -1), directions, distance)
        canonical = self._scenes.canonical(at.flatten(0, 1), frames)
        return self._scenes.deformation.moved(scene.deformation, canonical).view_as(at)

    def _looked_again(self, distance: Tensor, length: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Places where a ray's first ones have seen most, and what each stands for."""
        share = weights / weights.sum(1, keepdim=True).clamp(min=1e-6) + _LOOK_AROUND / weights.shape[1]
        cdf = F.pad(running_sums(share / share.sum(1, keepdim=True)), (1, 0))
        ends = distance[:, -1:] + length[:, -1:] / 2
        edges = torch.cat([distance - length / 2, ends], 1)
        u = torch.linspace(0, 1, 2 * self.config.num_samples + 1, device=cdf.device).expand(len(cdf), -1)
        at = invert_piecewise_linear(edges, cdf, u.contiguous())
        return at[:, 1::2], at[:, ::2].diff(dim=1).clamp(max=self._avatar.config.sampling.max_interval)

    def _color(
        self,
        spaced: Float[Tensor, "rays colors 3"],
        ambient: Float[Tensor, "rays ambient"],
        directions: Float[Tensor, "rays 3"],
        frames: WarpFrames,
    ) -> Float[Tensor, "rays 3"]:
        """Mean colour of each ray's places."""
        field, num = self._avatar.field, spaced.shape[1]
        seen_along = directions @ frames.skinned.T_canonical_skull[0, :3, :3].T
        with autocast_bfloat16(spaced.device, self._avatar.config.bfloat16):
            features = field.features(spaced.flatten(0, 1))
            color = field.color(features, *(x.repeat_interleave(num, 0) for x in (seen_along, ambient)))
        return color.view(-1, num, 3).mean(1)


def quantiles(
    points: Float[Tensor, "rays samples 3"], weights: Float[Tensor, "rays samples"], num: int
) -> Float[Tensor, "rays num 3"]:
    """Places along each ray that stand for equal shares of what it sees, interpolated between its samples'."""
    cdf = F.pad(running_sums(weights), (1, 0))
    total = cdf[:, -1:].clamp(min=1e-9)
    shares = (torch.arange(num, device=points.device) + 0.5) / num * total
    edges = torch.arange(cdf.shape[1], device=points.device, dtype=cdf.dtype) - 0.5
    at = invert_piecewise_linear(edges.expand_as(cdf).contiguous(), cdf, shares).clamp(0, weights.shape[1] - 1)
    below = at.long().clamp(max=weights.shape[1] - 2)
    rows = torch.arange(len(points), device=points.device)[:, None]
    return torch.lerp(points[rows, below], points[rows, below + 1], (at - below)[..., None])
