"""View volume of one camera and one frame: sample positions along the rays, and values at lattice nodes.

Inverse skinning and deformation are computed on lattices in the camera's coordinates. A coarse lattice finds the cells
that are neither empty nor hidden; a fine lattice covers these cells. Points are metres in the canonical frame unless a
docstring says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.canonical_warp import CanonicalWarp, WarpFrames
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

_MIN_DENSITY, _MIN_LIGHT = 1.0, 1e-3
"""Density in 1/m below which a coarse cell is empty, and transmittance below which it is hidden."""
_MIN_WEIGHT = 5e-4
"""Volume-rendering weight below which a cell of a column gets no samples."""
_UNIFORM_FRACTION = 0.3
"""Share of a column's samples that is uniform over all cells that get any, because the lattice is coarser than rays."""
_EXACT_MARGIN = 0.005
"""Metres around mouth and eyes within which every sample of a ray is warped."""
_DEFORMATION_MARGIN = 0.015
"""Metres around mouth and eyes of the canonical head that the deformation volume covers."""

POINTS, PARTS, DEFORMATION, AMBIENT = slice(3), slice(3, 6), slice(6, 7), slice(7, None)
"""Channels of `ViewVolume.values`: contracted points after deformation, part colours, size of the deformation, ambient
coordinates."""


@dataclass(frozen=True)
class ViewVolume:
    """Samples and interpolation values of one camera and one frame."""

    offsets: Float[Tensor, "3 z y x"]
    """Deformation at mouth and eyes, from `BakedDeformation`."""
    lattice: ViewLattice
    values: Float[Tensor, "channels rows columns depths"]
    """The channels are `POINTS`, `PARTS`, `DEFORMATION` and `AMBIENT`."""
    row: Int[Tensor, "all"]
    """Row in `distance` of each lattice column; -1 for columns without samples."""
    distance: Float[Tensor, "filled samples"]
    """Sample distances along a column's rays, metres."""
    length: Float[Tensor, "filled samples"]
    """Length that each sample represents, metres."""
    exact: Bool[Tensor, "all"]
    """Columns in which every sample of a ray is warped."""
    counts: Int[Tensor, "5"]
    """Counts of a `Capacity`, without those of rays."""


class ViewVolumeBuilder:
    """Builds view volumes of one avatar."""

    def __init__(self, avatar: Avatar, config: BakedConfig) -> None:
        """Bake the density volume, which takes seconds."""
        self.config, self._avatar = config, avatar
        self.density = BakedDensity(avatar, config.resolution)
        regions = avatar.skinning.head.model.regions
        lids, x = regions["eyelids"] > 0.5, avatar.skinning.canonical.verts[:, 0]
        opening = (regions["lips"] > 0.5, lids & (x > 0), lids & (x < 0))
        self._openings = [region.nonzero()[:, 0] for region in opening if region.any()]
        around = avatar.skinning.canonical.verts[torch.cat(self._openings) if self._openings else slice(1)]
        lower, upper = around.amin(0) - _DEFORMATION_MARGIN, around.amax(0) + _DEFORMATION_MARGIN
        self.deformation = BakedDeformation(avatar, lower, upper, config.deformation_spacing)

    def build(
        self,
        origin: Float[Tensor, "3"],
        directions: Float[Tensor, "rays 3"],
        warp: CanonicalWarp,
        frames: WarpFrames,
        capacity: Capacity | None = None,
    ) -> ViewVolume:
        """Build the volume that the given rays of one camera span.

        Args:
            origin: camera centre, world frame, metres.
            directions: world frame, unit length.
            warp: the avatar's, with fixed shapes if a capacity is given.
            frames: one posed frame.
            capacity: limits of everything that is counted otherwise.
        """
        verts, padding = frames.skinned.verts[0], self._avatar.skinning.space.padding
        shape = None if capacity is None else (capacity.rows, capacity.columns, capacity.depths)
        coarse = ViewLattice.around(verts, padding, 2 * self.config.spacing, origin, directions, shape)
        near, visible = self._find_visible(coarse, warp, frames, None if capacity is None else capacity.near)
        lattice = coarse.subdivide()
        for axis in range(3):
            visible = visible.repeat_interleave(2, axis)
        num_visible = None if capacity is None else capacity.visible
        node = Rows(visible.flatten(), warp.fixed_shapes, num_visible)
        points = lattice.points(node.index)
        canonical = warp.to_canonical(points, single_frame(points), frames)
        share = self._sample_share(canonical, node, visible, lattice)
        # Samples are interpolated between the nodes around them.
        used = Rows(_dilate(share > 0).flatten(), warp.fixed_shapes, num_visible)
        zeros = points.new_zeros(lattice.num_nodes)
        points = used.gather(node.scatter(zeros[:, None].expand(-1, 3), canonical.points))
        torso = used.gather(node.scatter(zeros, canonical.torso))
        values = self._values(CanonicalPoints(points, torso), warp, frames)
        empty = values.new_zeros(lattice.num_nodes, values.shape[1])
        empty[:, POINTS] = 1  # a corner of the canonical box
        values = used.scatter(empty, values).T.reshape(-1, *lattice.shape)
        counts = torch.cat([coarse.needed_shape, torch.stack([near.holds.sum(), node.holds.sum()])])
        offsets, exact = self.deformation.offsets(warp, frames.states), self._exact_columns(verts, lattice)
        return ViewVolume(offsets, lattice, values, *self._samples(share, lattice, warp.fixed_shapes), exact, counts)

    def to_contracted(
        self, points: Float[Tensor, "points 3"], warp: CanonicalWarp, frames: WarpFrames
    ) -> Float[Tensor, "points 3"]:
        """World points to undeformed contracted points."""
        return self._avatar.field.contract(warp.to_canonical(points, single_frame(points), frames).points)

    def _find_visible(
        self, coarse: ViewLattice, warp: CanonicalWarp, frames: WarpFrames, capacity: int | None
    ) -> tuple[Rows, Bool[Tensor, "rows columns depths"]]:
        """Cells near occupied cells; and cells that are neither empty nor hidden, with their neighbours."""
        points = coarse.points(torch.arange(coarse.num_nodes, device=coarse.lower.device))
        near = torch.zeros_like(points[:, 0], dtype=torch.bool)
        for T in (frames.skinned.T_canonical_skull[0], frames.skinned.T_canonical_torso[0]):
            near |= self._avatar.grid.near_occupied(move_points(T, points))
        chosen = Rows(near, warp.fixed_shapes, capacity)
        density = self.density.mean_around(0, self.to_contracted(chosen.gather(points), warp, frames))
        density = chosen.scatter(points.new_zeros(len(points)), density).view(coarse.shape)
        optical_depth = density * coarse.size[2]
        # Rays may pass beside a cell's centre, where more light gets through.
        light = dilate(torch.exp(optical_depth - running_sums(optical_depth)))
        return chosen, _dilate((density > _MIN_DENSITY) & (light > _MIN_LIGHT))

    def _sample_share(
        self, canonical: CanonicalPoints, node: Rows, visible: Tensor, lattice: ViewLattice
    ) -> Float[Tensor, "rows columns depths"]:
        """Largest weight that a ray may see in each cell; 0 in cells that get no samples.

        Training drew its samples from undeformed density. Outside them the deformation is unconstrained, so undeformed
        density and the occupancy grid choose the cells here too. Rays read density after deformation.
        """
        zeros = canonical.points.new_zeros(lattice.num_nodes)
        density = self.density.mean_around(1, self._avatar.field.contract(canonical.points))
        density = node.scatter(zeros, density).view(lattice.shape)
        occupied = node.scatter(visible.flatten(), self._avatar.grid.probe(canonical.points) > 0)
        occupied = (occupied & visible.flatten()).view(lattice.shape)
        columns = density.flatten(0, 1)
        weights = weights_from_density(columns, lattice.size[2].expand_as(columns))
        # A ray through a neighbouring cell may see as much. Interpolation needs all nodes around a sample.
        share = dilate(weights.view(lattice.shape)) * (occupied & ~_dilate(~visible))
        return share * (share > _MIN_WEIGHT)

    def _values(
        self, canonical: CanonicalPoints, warp: CanonicalWarp, frames: WarpFrames
    ) -> Float[Tensor, "points channels"]:
        """Channels of a view volume at canonical points."""
        avatar, frame = self._avatar, single_frame(canonical.points)
        with autocast_bfloat16(frame.device, avatar.config.bfloat16):
            deformed = warp.deform(canonical, frame, frames.states)
        colors = inspection_colors(canonical.points, deformed, avatar.field, avatar.config)
        contracted = avatar.field.contract(deformed.points)
        return torch.cat([contracted, colors.parts, colors.deformation[:, :1], deformed.ambient.float()], 1)

    def _samples(
        self, share: Float[Tensor, "rows columns depths"], lattice: ViewLattice, fixed: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`row`, `distance` and `length` of a view volume."""
        share = share.flatten(0, 1)
        filled = Rows(share.any(1), fixed)
        pdf = filled.gather(share)
        num, uniform = len(pdf), F.normalize((pdf > 0).float(), p=1, dim=1)
        pdf = (1 - _UNIFORM_FRACTION) * pdf / pdf.sum(1, keepdim=True).clamp(min=1e-6) + _UNIFORM_FRACTION * uniform
        cdf = F.pad(running_sums(pdf), (1, 0))
        # Edges of equal shares alternate with the samples between them, so no sample falls into a gap.
        u = torch.linspace(0, 1, 2 * self.config.num_samples + 1, device=pdf.device).expand(num, -1)
        at = invert_piecewise_linear(lattice.edges.expand(num, -1).contiguous(), cdf, u.contiguous())
        row = filled.scatter(torch.full((len(share),), -1, device=pdf.device), torch.arange(num, device=pdf.device))
        longest = self._avatar.config.sampling.max_interval
        return row, at[:, 1::2], at[:, ::2].diff(dim=1).clamp(max=longest)

    def _exact_columns(self, verts: Float[Tensor, "verts 3"], lattice: ViewLattice) -> Bool[Tensor, "all"]:
        """Columns at mouth and eyes."""
        rows, columns = (torch.arange(n, device=verts.device) for n in lattice.shape[:2])
        exact = torch.zeros(lattice.shape[:2], dtype=torch.bool, device=verts.device)
        for region in self._openings:
            offset = verts[region] - lattice.origin
            _, position = lattice.columns(F.normalize(offset, dim=1))
            margin = _EXACT_MARGIN / self.config.spacing
            (left, top), (right, bottom) = (position.amin(0) - margin).floor(), (position.amax(0) + margin + 1).floor()
            exact |= ((rows >= top) & (rows <= bottom))[:, None] & (columns >= left) & (columns <= right)
        return exact.flatten()


def _dilate(cells: Bool[Tensor, "rows columns depths"]) -> Bool[Tensor, "rows columns depths"]:
    return dilate(cells.float()) > 0


def single_frame(rows: Tensor) -> Int[Tensor, "rows"]:
    """Frame index 0 for each row."""
    return torch.zeros(len(rows), dtype=torch.long, device=rows.device)
