"""What one camera sees of one moment: where its rays take samples, and what these are interpolated from.

Inverse skinning and deformation are computed on a lattice in the camera's own coordinates: first on a coarse one, to
find what is neither empty nor hidden, then on a fine one there. Points are metres, in the canonical frame where nothing
else is said.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.canonical_warp import WarpFrames
from partnerface_ns.avatar.shading import inspection_colors
from partnerface_ns.baked.capacity import Capacity
from partnerface_ns.baked.config import BakedConfig
from partnerface_ns.baked.volumes import BakedDeformation, BakedDensity
from partnerface_ns.common.precision import autocast_bfloat16
from partnerface_ns.geometry.rigid import move_points
from partnerface_ns.geometry.rows import Rows
from partnerface_ns.geometry.volumes import dilate
from partnerface_ns.rendering.lattice import ViewLattice
from partnerface_ns.rendering.sampling import invert_piecewise_linear
from partnerface_ns.rendering.volume import running_sums, weights_from_density
from partnerface_ns.warp.inverse_skinning import CanonicalPoints

_THIN, _HIDDEN = 1.0, 1e-3
"""Density in 1/m, and share of light, below which a coarse cell is empty, or hidden."""
_UNSEEN = 5e-4
"""Share of a column's light below which a cell of it gets no samples."""
_EXPLORE = 0.3
"""Share of a column's samples spread evenly over all cells that get any: the lattice only guesses what a ray sees."""
_MARGIN = 0.005
"""Metres around mouth and eyes within which rays follow every sample."""
_AROUND = 0.015
"""Metres around mouth and eyes of the canonical head within which a moment's deformation is read."""


@dataclass(frozen=True)
class Scene:
    """What one camera sees of one moment."""

    deformation: Float[Tensor, "3 z y x"]
    """At mouth and eyes, from `BakedDeformation`."""
    lattice: ViewLattice
    values: Float[Tensor, "channels rows columns depths"]
    """Canonical places after deformation, in the field's spacing; colours of parts, sizes of deformation, ambient
    coordinates."""
    row: Int[Tensor, "all"]
    """Row of each of the lattice's columns in `distance`, -1 where it holds nothing."""
    distance: Float[Tensor, "held samples"]
    """Where the samples of a column's rays lie."""
    length: Float[Tensor, "held samples"]
    """Metres that each of them stands for."""
    exact: Bool[Tensor, "all"]
    """Columns whose rays follow every sample."""
    counts: Int[Tensor, "5"]
    """What it takes of a `Capacity`: all but the rays."""


class Scenes:
    """Makes an avatar's scenes."""

    def __init__(self, avatar: Avatar, config: BakedConfig) -> None:
        """Compute the density volume, which takes seconds."""
        self.config, self._avatar = config, avatar
        self.density = BakedDensity(avatar, config.resolution)
        regions = avatar.skinning.head.model.regions
        lids, x = regions["eyelids"] > 0.5, avatar.skinning.canonical.verts[:, 0]
        split = (regions["lips"] > 0.5, lids & (x > 0), lids & (x < 0))
        self._split = [region.nonzero()[:, 0] for region in split if region.any()]
        around = avatar.skinning.canonical.verts[torch.cat(self._split) if self._split else slice(1)]
        lower, upper = around.amin(0) - _AROUND, around.amax(0) + _AROUND
        self.deformation = BakedDeformation(avatar, lower, upper, config.deformation_spacing)

    def of(
        self,
        origin: Float[Tensor, "3"],
        directions: Float[Tensor, "rays 3"],
        frames: WarpFrames,
        room: Capacity | None = None,
    ) -> Scene:
        """What the camera at a place of the world sees along some directions, which its lattice spans.

        Args:
            origin: world frame, metres.
            directions: world frame, unit length.
            frames: one posed frame.
            room: what `fixed_shapes` fixes.
        """
        avatar, verts, space = self._avatar, frames.skinned.verts[0], self._avatar.config.space
        padding = max(space.reach_hair, space.reach_torso)
        coarse = ViewLattice.around(verts, padding, 2 * self.config.spacing, origin, directions, room and room[:3])
        near, known = self._in_sight(coarse, frames, room and room.near)
        lattice = coarse.finer()
        for axis in range(3):
            known = known.repeat_interleave(2, axis)
        node = Rows(known.flatten(), room and room.in_sight)
        points = lattice.points(node.index)
        canonical = avatar.warp.to_canonical(points, one_frame(points), frames)
        # Training drew its samples from density before deformation, and where it never looked a deformation may be
        # anything: both decide where to look here too, while rays read density after deformation.
        nowhere = points.new_zeros(_size(lattice))
        density = node.into(nowhere, self.density.mean_around(1, avatar.field.spaced(canonical.points)))
        looked_at = node.into(known.flatten(), avatar.grid.probe(canonical.points) > 0) & known.flatten()
        share = self._share(density.view(lattice.shape), known, looked_at.view(lattice.shape), lattice)
        # Samples are interpolated from their cells' nodes and these nodes' neighbours.
        read = Rows(_grown(share > 0).flatten(), room and room.in_sight)
        places = read.of(node.into(nowhere[:, None].expand(-1, 3), canonical.points))
        values = self._values(CanonicalPoints(places, read.of(node.into(nowhere, canonical.torso))), frames)
        nothing = values.new_zeros(_size(lattice), values.shape[1])
        nothing[:, :3] = 1  # a corner of the box
        values = read.into(nothing, values).T.reshape(-1, *lattice.shape)
        counts = torch.cat([coarse.needed, torch.stack([near.holds.sum(), node.holds.sum()])])
        deformation, exact = self.deformation.at_moment(frames.states), self._exact_columns(verts, lattice)
        return Scene(deformation, lattice, values, *self._samples(share, lattice), exact, counts)

    def _values(self, canonical: CanonicalPoints, frames: WarpFrames) -> Float[Tensor, "points channels"]:
        """The values of a scene at canonical places."""
        avatar, frame = self._avatar, one_frame(canonical.points)
        with autocast_bfloat16(frame.device, avatar.config.bfloat16):
            moved = avatar.warp.deform(canonical, frame, frames.states)
        shown = inspection_colors(canonical.points, moved, avatar.field, avatar.config)
        spaced = avatar.field.spaced(moved.points)
        return torch.cat([spaced, shown.parts, shown.deformation[:, :1], moved.ambient.float()], 1)

    def _in_sight(
        self, coarse: ViewLattice, frames: WarpFrames, room: int | None
    ) -> tuple[Rows, Bool[Tensor, "rows columns depths"]]:
        """Cells near matter, and which cells are neither empty nor hidden, and their neighbours."""
        avatar = self._avatar
        points = coarse.points(torch.arange(_size(coarse), device=coarse.lower.device))
        near = torch.zeros_like(points[:, 0], dtype=torch.bool)
        for T in (frames.skinned.T_canonical_skull[0], frames.skinned.T_canonical_torso[0]):
            near |= avatar.grid.near_occupied(move_points(T, points))
        chosen = Rows(near, room)
        density = self.density.mean_around(0, self.canonical(chosen.of(points), frames))
        density = chosen.into(points.new_zeros(len(points)), density).view(coarse.shape)
        through = density * coarse.size[2]
        # Rays may pass beside a cell's middle, where more light gets through.
        light = dilate(torch.exp(through - running_sums(through)))
        return chosen, _grown((density > _THIN) & (light > _HIDDEN))

    def canonical(self, points: Float[Tensor, "points 3"], frames: WarpFrames) -> Float[Tensor, "points 3"]:
        """Where inverse skinning puts points of the world, in the field's spacing."""
        return self._avatar.field.spaced(self._avatar.warp.to_canonical(points, one_frame(points), frames).points)

    def _share(
        self, density: Tensor, known: Tensor, looked_at: Tensor, lattice: ViewLattice
    ) -> Float[Tensor, "rows columns depths"]:
        """What share of its column's light each cell may see; 0 where none of the samples shall lie."""
        columns = density.flatten(0, 1)
        weights = weights_from_density(columns, lattice.size[2].expand_as(columns))
        # A cell's neighbours may see as much; interpolation needs all nodes around a place.
        share = dilate(weights.view(lattice.shape)) * (looked_at & ~_grown(~known))
        return share * (share > _UNSEEN)

    def _samples(
        self, share: Float[Tensor, "rows columns depths"], lattice: ViewLattice
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Where the samples of each column go: `row`, `distance` and `length` of a scene."""
        share = share.flatten(0, 1)
        held = Rows(share.any(1))
        pdf = held.of(share)
        num, even = len(pdf), F.normalize((pdf > 0).float(), p=1, dim=1)
        pdf = (1 - _EXPLORE) * pdf / pdf.sum(1, keepdim=True).clamp(min=1e-6) + _EXPLORE * even
        cdf = F.pad(running_sums(pdf), (1, 0))
        # Edges of equal shares, and between them the places themselves, which never fall into a gap.
        u = torch.linspace(0, 1, 2 * self.config.num_samples + 1, device=pdf.device).expand(num, -1)
        at = invert_piecewise_linear(lattice.edges.expand(num, -1).contiguous(), cdf, u.contiguous())
        row = held.into(torch.full((len(share),), -1, device=pdf.device), torch.arange(num, device=pdf.device))
        longest = self._avatar.config.sampling.max_interval
        return row, at[:, 1::2], at[:, ::2].diff(dim=1).clamp(max=longest)

    def _exact_columns(self, verts: Float[Tensor, "verts 3"], lattice: ViewLattice) -> Bool[Tensor, "all"]:
        """Columns at mouth and eyes."""
        rows, columns = (torch.arange(n, device=verts.device) for n in lattice.shape[:2])
        exact = torch.zeros(lattice.shape[:2], dtype=torch.bool, device=verts.device)
        for region in self._split:
            away = verts[region] - lattice.origin
            _, place = lattice.columns(F.normalize(away, dim=1))
            margin = _MARGIN / self.config.spacing
            (left, top), (right, bottom) = (place.amin(0) - margin).floor(), (place.amax(0) + margin + 1).floor()
            exact |= ((rows >= top) & (rows <= bottom))[:, None] & (columns >= left) & (columns <= right)
        return exact.flatten()


def _grown(cells: Bool[Tensor, "rows columns depths"]) -> Bool[Tensor, "rows columns depths"]:
    return dilate(cells.float()) > 0


def one_frame(rows: Tensor) -> Int[Tensor, "rows"]:
    """The first frame, for each row."""
    return torch.zeros(len(rows), dtype=torch.long, device=rows.device)


def _size(lattice: ViewLattice) -> int:
    rows, columns, depths = lattice.shape
    return rows * columns * depths
