"""An avatar prepared for driving: pictures of one head state from one camera, many times as fast.

`Avatar.render` follows every sample of every ray through skinning, deformation and field. Here

1. density is computed once, on a fine volume over the canonical head, and read;
2. canonical places and ambient coordinates are computed on a lattice around what the camera sees, coarse first, fine
   where there is something in sight, then interpolated; rays at mouth and eyes, where lips part and lids slide, take
   their samples through skinning themselves, look twice, and read the deformation from a volume over these;
3. colour is computed at a few places of a ray, the quantiles of what it sees.

What that costs in quality is measured by `partnerface bench` (docs/benchmarks.md). Metrics, and `ns-eval`, use
`Avatar.render`, and so do cameras nearer than a lattice can see around. Points are metres, in the canonical frame where
nothing else is said; volumes have axes (z, y, x).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partnerface_ns.avatar import Avatar
from partnerface_ns.avatar_stages import Moments
from partnerface_ns.baked import BakedDeformation, BakedDensity
from partnerface_ns.flame.posing import PosedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import move_points
from partnerface_ns.geometry.rows import Rows
from partnerface_ns.geometry.volumes import dilated
from partnerface_ns.recorded_work import RecordedWork
from partnerface_ns.rendering.lattice import ViewLattice
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.rendering.sampling import along, invert_piecewise_linear
from partnerface_ns.rendering.volume import running_sums, weights_from_density
from partnerface_ns.warp.inverse_skinning import CanonicalPoints

_RAYS_ON_CPU, _RAYS_ON_GPU = 1 << 14, 1 << 18
"""Rays rendered at once: enough to keep the device busy, few enough for a small memory (and a CPU's cache)."""
_NUM_RECORDINGS = 3
"""Recordings that are kept: a viewer shows smaller pictures while something moves."""
_MORE_ROWS, _MORE_CELLS = 1.3, 1.15
"""How many times as many cells and rays, and cells along a side of the lattice, a recording has room for as the picture
that it is made for takes; a picture that takes more is recorded anew."""
_CLOSE = 0.15
"""Metres to the surface within which a camera looks wider than a lattice reaches."""
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


@dataclass
class PreparedConfig:
    """What is traded for speed."""

    resolution: int = 256
    """Nodes a side of the density volume, a multiple of 4."""
    spacing: float = 0.008
    """Metres between nodes of the lattice that samples are interpolated from."""
    num_samples: int = 20
    """Places of a ray at which density is read, an even number."""
    num_colors: int = 4
    """Places of a ray at which colour is computed."""
    deformation_spacing: float = 0.006
    """Metres between the nodes that a moment's deformation is read from at mouth and eyes."""


@dataclass(frozen=True)
class _Scene:
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
    counts: Int[Tensor, "2"]
    """`near` and `in_sight` of a `_Room`."""


class _View(NamedTuple):
    """One picture to draw."""

    origin: Float[Tensor, "3"]
    directions: Float[Tensor, "rays 3"]
    state: HeadState
    head: PosedHead
    """In this state."""
    timesteps: Int[Tensor, "1"] | None


class _Room(NamedTuple):
    """What `fixed_shapes` fixes of a picture: all that is counted otherwise."""

    rows: int
    columns: int
    depths: int
    """Of the coarse lattice."""
    near: int
    """Coarse cells near matter."""
    in_sight: int
    """Fine cells in sight."""
    hit: int
    """Rays that meet anything."""
    exact: int
    """Of these, rays that follow every sample."""

    @staticmethod
    def of(counts: Int[Tensor, "7"]) -> _Room:
        return _Room(*map(int, counts.tolist()))

    def grown(self) -> _Room:
        """With room for other pictures."""
        cells = (math.ceil(_MORE_CELLS * n) for n in self[:3])
        return _Room(*cells, *(math.ceil(_MORE_ROWS * n) + 1 for n in self[3:]))

    def or_more(self, other: _Room) -> _Room:
        """Room for what either has room for."""
        return _Room(*map(max, self, other))

    def holds(self, needs: _Room) -> bool:
        return all(need <= has for need, has in zip(needs, self, strict=True))


class _Drawn(NamedTuple):
    """A picture."""

    shown: dict[str, Tensor]
    counts: Int[Tensor, "7"]
    """The `_Room` that it takes."""


class _Recording(NamedTuple):
    """Work on pictures that need no more than a certain room."""

    room: _Room
    work: RecordedWork[_View, _Drawn]


class PreparedAvatar:
    """Renders an avatar that is no longer trained."""

    def __init__(self, avatar: Avatar, config: PreparedConfig | None = None) -> None:
        """Compute the density volume, which takes seconds; the avatar must not change afterwards."""
        self.config, self._avatar = config or PreparedConfig(), avatar.eval()
        self._recordings: dict[tuple[int, bool], _Recording] = {}
        self._playing = Lock()
        self._density = BakedDensity(avatar, self.config.resolution)
        regions = avatar.skinning.head.model.regions
        lids, x = regions["eyelids"] > 0.5, avatar.skinning.canonical.verts[:, 0]
        split = (regions["lips"] > 0.5, lids & (x > 0), lids & (x < 0))
        self._split = [region.nonzero()[:, 0] for region in split if region.any()]
        around = avatar.skinning.canonical.verts[torch.cat(self._split) if self._split else slice(1)]
        lower, upper = around.amin(0) - _AROUND, around.amax(0) + _AROUND
        self._deformation = BakedDeformation(avatar, lower, upper, self.config.deformation_spacing)

    @torch.no_grad()
    def render(
        self,
        origin: Float[Tensor, "3"],
        directions: Float[Tensor, "rays 3"],
        state: HeadState,
        timesteps: Int[Tensor, "1"] | None = None,
        recorded: bool = True,
    ) -> dict[str, Float[Tensor, "rays channels"]]:
        """Render rays from one place.

        Args:
            origin: world frame, metres.
            directions: world frame, unit length.
            state: one head state, batch axes (1,).
            timesteps: as for `Avatar.render`.
            recorded: whether a GPU may play a recording, which knows nothing of what was changed in the avatar since.

        Returns:
            As `Avatar.render` in evaluation; canonical is the place after deformation.
        """
        head = self._avatar.skinning.head.pose(state)
        if (head.verts[0] - origin).norm(dim=1).min() < _CLOSE:
            rays = Rays(origin.expand_as(directions), directions, _one_frame(directions))
            return self._avatar.render(rays, state, timesteps)
        view = _View(origin, directions, state, head, timesteps)
        playable = directions.is_cuda and len(directions) <= _RAYS_ON_GPU
        return self._played(view) if recorded and playable else self._drawn(view).shown

    def _played(self, view: _View) -> dict[str, Tensor]:
        """The same on a GPU, where the work on one picture is recorded and played for others of its size."""
        kind = (len(view.directions), view.timesteps is None)
        with self._playing:
            recording, room = self._recordings.pop(kind, None), None
            if recording is not None:
                drawn = recording.work(view)
                needs = _Room.of(drawn.counts)
                if not recording.room.holds(needs):
                    # What it needed there: a lattice with more cells may hold more than the plain one will say.
                    recording, room = None, recording.room.or_more(needs.grown())
            if recording is None:
                drawn = self._drawn(view)
                recording = self._recording(_Room.of(drawn.counts).grown(), room)
            self._recordings[kind] = recording  # the last is the newest
            if len(self._recordings) > _NUM_RECORDINGS:
                self._recordings.pop(next(iter(self._recordings)))
            return {name: values.clone() for name, values in drawn.shown.items()}

    def _recording(self, room: _Room, before: _Room | None) -> _Recording:
        """For pictures that take so much room; `before` is what the last recording of the kind had and lacked."""
        room = room if before is None else room.or_more(before)
        return _Recording(room, RecordedWork(lambda view: self._drawn(view, room)))

    def _drawn(self, view: _View, room: _Room | None = None) -> _Drawn:
        """The picture; `room` is what `fixed_shapes` fixes of it."""
        avatar, num = self._avatar, _RAYS_ON_GPU if view.directions.is_cuda else _RAYS_ON_CPU
        moments = avatar.moments(view.state, view.timesteps, avatar.skinning.posed(view.state, view.head))
        lattice = self._lattice(view.origin, view.directions, moments.skinned.verts[0], room and room[:3])
        scene = self._scene(lattice, moments, room)
        chunks = [self._shaded(view.origin, part, moments, scene, room) for part in view.directions.split(num)]
        shown = {name: torch.cat([chunk.shown[name] for chunk in chunks]) for name in chunks[0].shown}
        return _Drawn(shown, torch.cat([lattice.needed, scene.counts, sum(chunk.counts for chunk in chunks)]))

    def _lattice(
        self, origin: Tensor, directions: Tensor, verts: Tensor, shape: tuple[int, int, int] | None
    ) -> ViewLattice:
        """The coarse one."""
        space = self._avatar.config.space
        padding = max(space.reach_hair, space.reach_torso)
        return ViewLattice.around(verts, padding, 2 * self.config.spacing, origin, directions, shape)

    # -- what is in sight ----------------------------------------------------------------------------------------

    def _scene(self, coarse: ViewLattice, moments: Moments, room: _Room | None) -> _Scene:
        avatar, verts = self._avatar, moments.skinned.verts[0]
        near, known = self._in_sight(coarse, moments, room and room.near)
        lattice = coarse.finer()
        for axis in range(3):
            known = known.repeat_interleave(2, axis)
        node = Rows(known.flatten(), room and room.in_sight)
        points = lattice.points(node.index)
        canonical = avatar.canonical(points, _one_frame(points), moments)
        # Training drew its samples from density before deformation, and where it never looked a deformation may be
        # anything: both decide where to look here too, while rays read density after deformation.
        nowhere = points.new_zeros(_size(lattice))
        density = node.into(nowhere, self._density.mean_around(1, avatar.field.spaced(canonical.points)))
        looked_at = node.into(known.flatten(), avatar.grid.probe(canonical.points) > 0) & known.flatten()
        share = self._share(density.view(lattice.shape), known, looked_at.view(lattice.shape), lattice)
        # Samples are interpolated from their cells' nodes and these nodes' neighbours.
        read = Rows(_grown(share > 0).flatten(), room and room.in_sight)
        places = read.of(node.into(nowhere[:, None].expand(-1, 3), canonical.points))
        values = self._values(CanonicalPoints(places, read.of(node.into(nowhere, canonical.torso))), moments)
        nothing = values.new_zeros(_size(lattice), values.shape[1])
        nothing[:, :3] = 1  # a corner of the box
        values = read.into(nothing, values).T.reshape(-1, *lattice.shape)
        counts = torch.stack([near.holds.sum(), node.holds.sum()])
        deformation, exact = self._deformation.at_moment(moments.states), self._exact_columns(verts, lattice)
        return _Scene(deformation, lattice, values, *self._samples(share, lattice), exact, counts)

    def _values(self, canonical: CanonicalPoints, moments: Moments) -> Float[Tensor, "points channels"]:
        """The values of a scene at canonical places."""
        avatar, frame = self._avatar, _one_frame(canonical.points)
        with torch.autocast(frame.device.type, torch.bfloat16, enabled=avatar.config.bfloat16):
            moved = avatar.deform(canonical, frame, moments.states)
        shown = avatar.inspect(canonical.points, moved)
        spaced = avatar.field.spaced(moved.points)
        return torch.cat([spaced, shown["parts"], shown["deformation"][:, :1], moved.ambient.float()], 1)

    def _in_sight(
        self, coarse: ViewLattice, moments: Moments, room: int | None
    ) -> tuple[Rows, Bool[Tensor, "rows columns depths"]]:
        """Cells near matter, and which cells are neither empty nor hidden, and their neighbours."""
        avatar = self._avatar
        points = coarse.points(torch.arange(_size(coarse), device=coarse.lower.device))
        near = torch.zeros_like(points[:, 0], dtype=torch.bool)
        for T in (moments.skinned.T_canonical_skull[0], moments.skinned.T_canonical_torso[0]):
            near |= avatar.grid.near_matter(move_points(T, points))
        chosen = Rows(near, room)
        density = self._density.mean_around(0, self._canonical(chosen.of(points), moments))
        density = chosen.into(points.new_zeros(len(points)), density).view(coarse.shape)
        through = density * coarse.size[2]
        # Rays may pass beside a cell's middle, where more light gets through.
        light = dilated(torch.exp(through - running_sums(through)))
        return chosen, _grown((density > _THIN) & (light > _HIDDEN))

    def _canonical(self, points: Float[Tensor, "points 3"], moments: Moments) -> Float[Tensor, "points 3"]:
        """Where inverse skinning puts points of the world, in the field's spacing."""
        return self._avatar.field.spaced(self._avatar.canonical(points, _one_frame(points), moments).points)

    def _share(
        self, density: Tensor, known: Tensor, looked_at: Tensor, lattice: ViewLattice
    ) -> Float[Tensor, "rows columns depths"]:
        """What share of its column's light each cell may see; 0 where none of the samples shall lie."""
        columns = density.flatten(0, 1)
        weights = weights_from_density(columns, lattice.size[2].expand_as(columns))
        # A cell's neighbours may see as much; interpolation needs all nodes around a place.
        share = dilated(weights.view(lattice.shape)) * (looked_at & ~_grown(~known))
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

    # -- what rays see -------------------------------------------------------------------------------------------

    def _shaded(
        self, origin: Tensor, directions: Tensor, moments: Moments, scene: _Scene, room: _Room | None
    ) -> _Drawn:
        avatar, lattice = self._avatar, scene.lattice
        num_ambient = scene.values.shape[0] - 7
        column, place = lattice.columns(directions)
        row = torch.where(column < 0, -1, scene.row[column])
        hit = Rows(row >= 0, room and room.hit)
        row, place, directions_hit = hit.of(row).clamp(min=0), hit.of(place), hit.of(directions)
        distance, length = scene.distance[row], scene.length[row]
        spaced = lattice.read(scene.values[:3], place, distance)
        at_split = scene.exact[hit.of(column).clamp(min=0)] & hit.of(hit.holds)
        at_split &= self._deformation.holds(spaced).any(1)  # hair may hide them
        exact = Rows(at_split, room and room.exact)
        counts = torch.stack([hit.holds.sum(), at_split.sum()])
        if len(exact.index):
            followed, at, apart = exact.of(directions_hit), exact.of(distance), exact.of(length)
            # Half as many show where to look.
            coarse, wide = F.avg_pool1d(at, 2), 2 * F.avg_pool1d(apart, 2)
            first = self._followed(origin, followed, coarse, moments, scene)
            at, apart = self._looked_again(coarse, wide, weights_from_density(self._density.at(first), wide))
            spaced = exact.into(spaced, self._followed(origin, followed, at, moments, scene))
            distance, length = exact.into(distance, at), exact.into(length, apart)
        weights = weights_from_density(self._density.at(spaced), length)
        opacity = weights.sum(1, keepdim=True)
        depth = (weights * distance).sum(1, keepdim=True) / opacity.clamp(min=1e-4)
        # What varies slowly is read where a ray sees most.
        parts, size, ambient = lattice.read(scene.values[3:], place, depth)[:, 0].split([3, 1, num_ambient], 1)
        spaced = quantiles(spaced, weights, self.config.num_colors)
        color = self._color(spaced, ambient, directions_hit, moments)

        on_rays = lambda values: hit.into(values.new_zeros(len(directions), values.shape[1]), values)  # noqa: E731
        accumulation = on_rays(opacity)
        rgb = on_rays(opacity * color) + (1 - accumulation) * avatar.get_buffer("background")
        field = avatar.field
        shown = {
            "parts": parts,
            "deformation": size.expand(-1, 3),
            "canonical": (field.places(spaced.mean(1)) - field.lower) / (field.upper - field.lower),
        }
        outputs = {"rgb": rgb, "accumulation": accumulation, "depth": on_rays(depth)}
        return _Drawn(outputs | {name: on_rays(opacity * values) for name, values in shown.items()}, counts)

    def _followed(
        self, origin: Tensor, directions: Tensor, distance: Tensor, moments: Moments, scene: _Scene
    ) -> Float[Tensor, "rays samples 3"]:
        """Places of samples after skinning and deformation of each, in the field's spacing."""
        at = along(origin.expand(len(directions), -1), directions, distance)
        canonical = self._canonical(at.flatten(0, 1), moments)
        return self._deformation.moved(scene.deformation, canonical).view_as(at)

    def _looked_again(self, distance: Tensor, length: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Places where a ray's first ones have seen most, and what each stands for."""
        share = weights / weights.sum(1, keepdim=True).clamp(min=1e-6) + _EXPLORE / weights.shape[1]
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
        moments: Moments,
    ) -> Float[Tensor, "rays 3"]:
        """Mean colour of each ray's places."""
        field, num = self._avatar.field, spaced.shape[1]
        seen_along = directions @ moments.skinned.T_canonical_skull[0, :3, :3].T
        with torch.autocast(spaced.device.type, torch.bfloat16, enabled=self._avatar.config.bfloat16):
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


def _grown(cells: Bool[Tensor, "rows columns depths"]) -> Bool[Tensor, "rows columns depths"]:
    return dilated(cells.float()) > 0


def _one_frame(rows: Tensor) -> Int[Tensor, "rows"]:
    return torch.zeros(len(rows), dtype=torch.long, device=rows.device)


def _size(lattice: ViewLattice) -> int:
    rows, columns, depths = lattice.shape
    return rows * columns * depths
