"""Inverse skinning: a point of a posed frame to the canonical head.

The canonical head is the person with neutral expression, jaw slightly open (so that the lips do not touch), eyes and
neck at rest. Two rigid bones move a world point x, and on the face a displacement field D as well:

    c_skull = y + D(y),   y = T_skull x        (T_skull: inverse of the neck joint's transform)
    c_torso = T_torso x                        (T_torso: inverse of the torso bone's transform)
    c       = (1 - w) c_skull + w c_torso      (w: torso share of the skinning weights at c)

D undoes jaw, eyes, expression and pose correctives. In the skull's frame, the mesh of a frame has the vertices

    y_v = G_v (rest_v + d_v),   G_v = sum_j w_vj T_skull T_j   (root and neck count as one bone)

which map to the canonical vertices c_v, so D(y_v) = c_v - y_v. `displacement_grid.py` spreads these values over a grid
that is fine at mouth and eyes. It has two layers, because lips touch and lids slide over eyeballs: the articulated
surface (lower face and eyeballs) and everything else. Each layer gives a candidate for c_skull. The candidate nearer to
its own layer's surface is taken. Away from the mesh D fades to zero, so hair and glasses move with the skull.

Points are metres. Only the torso's pose has a gradient. The skinning equations are FLAME's; the grid, its fall-off and
the torso bone are our choice.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.posing import PosedHead, ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import invert_rigid, move_points, transform_points
from partnerface_ns.geometry.rows import Rows, run_lengths
from partnerface_ns.warp.canonical_space import CanonicalSpace, CanonicalSpaceConfig, is_articulated
from partnerface_ns.warp.displacement_grid import DisplacementGrid, DisplacementGridConfig
from partnerface_ns.warp.node_grid import NodeGrid

_MARGIN = 0.03
"""Metres around lower face, eyeballs and torso within which points may move with them."""
_AROUND_MOUTH = (0.035, 0.055)
"""Distances from the middle of the lips, metres: the surroundings of the mouth end between them."""
_CACHED_BYTES = 1 << 30
"""Memory for cached posed frames of training on a CPU. On a GPU frames are not cached here."""
_INSIDE_WEIGHT = 0.5
"""Weight of a distance below a layer's surface, against 1 for a distance above it, in the choice between layers."""


@dataclass
class InverseSkinningConfig:
    """The canonical pose, and which motion is undone."""

    canonical_jaw: float = 0.2
    """Opening of the canonical jaw, radians. It keeps the lips apart."""
    undo_face: bool = True
    """Whether jaw, eyes, expression and pose correctives are undone. Without it only the skull's pose is undone, for a
    comparison with fields that get the expression as an input and have no skinning (NerFace)."""


@dataclass(frozen=True)
class PosedFrames:
    """A few posed frames. Everything follows from the head states; nothing is learned."""

    displacement: Float[Tensor, "frames 6 z y x"]
    """D of each frame on the grid's nodes, metres."""
    T_canonical_skull: Float[Tensor, "frames 4 4"]
    """Canonical from world through the skull; the frame of view directions."""
    T_world_root: Float[Tensor, "frames 4 4"]
    """World from canonical through the head model's root joint."""
    verts: Float[Tensor, "frames verts 3"]
    """Vertices of the posed mesh, world frame, metres."""


@dataclass(frozen=True)
class SkinnedFrames(PosedFrames):
    """Posed frames with the pose of the torso bone."""

    T_canonical_torso: Float[Tensor, "frames 4 4"]
    """Canonical from world through the torso bone; carries the gradient of the torso's pose."""


@dataclass(frozen=True)
class CanonicalPoints:
    """Points in the canonical frame."""

    points: Float[Tensor, "points 3"]
    """Canonical frame, metres."""
    torso: Float[Tensor, "points"]
    """Share in [0, 1] to which the point moves with the torso."""


class InverseSkinning:
    """Maps points of posed frames to the canonical head of one person."""

    def __init__(
        self,
        config: InverseSkinningConfig,
        grid: DisplacementGridConfig,
        space: CanonicalSpaceConfig,
        head: ShapedHead,
    ) -> None:
        """
        Args:
            config: canonical pose.
            grid: settings of the displacement grid.
            space: settings of the canonical space.
            head: the person.
        """
        self.config, self.head = config, head
        canonical = HeadState.neutral(head.model.num_expr)
        canonical.jaw[0] = config.canonical_jaw
        self.canonical: PosedHead = head.pose(canonical.to(head.verts_rest.device))
        verts = self.canonical.verts
        self.space = CanonicalSpace(space, verts, head.model)
        self._weights = head.model.skinning_weights.clone()
        self._weights[:, Joint.NECK] += self._weights[:, Joint.ROOT]
        self._weights[:, Joint.ROOT] = 0
        self._grid = DisplacementGrid(grid, verts, head.model)
        regions = head.model.regions
        self.verts_in_mouth = verts[(regions["inside_mouth"] > 0.5) & (regions["lips"] < 0.5)]
        """Canonical vertices of teeth, tongue and the mouth's walls, if the head model has them; metres."""
        lips = verts[regions["lips"] > 0.5]
        self._mouth_center = lips.mean(0) if len(lips) else verts.mean(0)
        on_torso, articulated = head.model.skinning_weights[:, Joint.ROOT] > 0.01, is_articulated(head.model)
        self._torso_top = verts[on_torso, 1].amax() + _MARGIN if on_torso.any() else -torch.inf
        self._articulated_box = (verts[articulated].amin(0) - _MARGIN, verts[articulated].amax(0) + _MARGIN)
        self._cache: OrderedDict[bytes, PosedFrames] = OrderedDict()
        self._latest: dict[bytes, Tensor] = {}
        self._nodes: NodeGrid | None = None

    def mouth_share(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points"]:
        """Share in [0, 1] to which canonical points belong to the surroundings of the mouth."""
        inner, outer = _AROUND_MOUTH
        share = ((outer - (points - self._mouth_center).norm(dim=-1)) / (outer - inner)).clamp(0, 1)
        return share.square() * (3 - 2 * share)

    def nodes(self, spacing: float) -> NodeGrid:
        """Nodes around the canonical head at a distance in metres, made on first use."""
        if self._nodes is None or self._nodes.spacing != spacing:
            self._nodes = NodeGrid(self.space, spacing)
        return self._nodes

    def pose(self, states: HeadState, head: PosedHead | None = None) -> PosedFrames:
        """Pose the head, without gradients.

        Args:
            states: batch axes (frames,).
            head: the person's head in these states, if it is posed already.
        """
        with_gradients = torch.is_grad_enabled()
        with torch.no_grad():
            if with_gradients and head is None and not states.expression.is_cuda:
                return self._pose_again(states)
            return self._pose(states, head)

    def _pose(self, states: HeadState, head: PosedHead | None = None) -> PosedFrames:
        posed = head or self.head.pose(states)
        T_canonical_skull = invert_rigid(posed.T_world_rest[:, Joint.NECK])
        displacement = self._displacement(states, posed, T_canonical_skull)
        return PosedFrames(displacement, T_canonical_skull, posed.T_world_rest[:, Joint.ROOT], posed.verts)

    def _pose_again(self, states: HeadState) -> PosedFrames:
        """Pose frames of training, which come again many times; the cache has their displacements as float16."""
        values = torch.cat(list(states.tensors().values()), -1)
        keys = [row.tobytes() for row in values.numpy()]
        for i, key in enumerate(keys):
            if key not in self._cache:
                frame = self._pose(states[i : i + 1])
                self._cache[key] = replace(frame, displacement=frame.displacement.half())
        frames = [self._cache[key] for key in keys]
        bytes_per_frame = sum(value.numel() * value.element_size() for value in vars(frames[0]).values())
        while len(self._cache) * bytes_per_frame > _CACHED_BYTES:
            self._cache.popitem(last=False)
        names = [f.name for f in fields(PosedFrames)]
        return PosedFrames(**{name: torch.cat([getattr(f, name).float() for f in frames]) for name in names})

    def skin_frames(
        self, posed: PosedFrames | HeadState, T_world_torso: Float[Tensor, "frames 4 4"] | None = None
    ) -> SkinnedFrames:
        """Add the pose of the torso bone to posed frames.

        Args:
            posed: from `pose`, or the head states themselves, batch axes (frames,).
            T_world_torso: pose of the torso bone, whose gradient flows through `__call__`; None takes the head model's
                root joint.
        """
        posed = self.pose(posed) if isinstance(posed, HeadState) else posed
        T_canonical_torso = invert_rigid(posed.T_world_root if T_world_torso is None else T_world_torso)
        return SkinnedFrames(**vars(posed), T_canonical_torso=T_canonical_torso)

    def __call__(
        self,
        points: Float[Tensor, "points 3"],
        frame: Int[Tensor, "points"],
        frames: SkinnedFrames,
        fixed: bool = False,
    ) -> CanonicalPoints:
        """Canonical position of each point.

        Args:
            points: world frame, metres.
            frame: index into `frames` of each point, ascending.
            frames: from `skin_frames`.
            fixed: whether shapes are fixed (`geometry/rows.py`).
        """
        runs = list(enumerate(points.split(run_lengths(frame, frames.displacement.shape[0], fixed))))
        with torch.no_grad():
            by_skull = torch.cat([self._undo_face(frames, i, run, fixed) for i, run in runs])
            low = Rows(by_skull[:, 1] < self._torso_top, fixed)
            low_by_skull = low.gather(by_skull)
        low_by_torso = low.gather(torch.cat([move_points(frames.T_canonical_torso[i], run) for i, run in runs]))
        with torch.no_grad():
            # Share and canonical position depend on each other. The share is smooth, so two iterations suffice.
            share = self.space.torso_share(low_by_skull)[:, None]
            share = self.space.torso_share(torch.lerp(low_by_skull, low_by_torso, share))[:, None]
        canonical = low.scatter(by_skull, torch.lerp(low_by_skull, low_by_torso, share))
        return CanonicalPoints(canonical, low.scatter(by_skull.new_zeros(len(points)), share[:, 0]))

    def _undo_face(self, frames: SkinnedFrames, i: int, points: Tensor, fixed: bool) -> Float[Tensor, "points 3"]:
        """Canonical positions c_skull of points of frame i."""
        in_skull = move_points(frames.T_canonical_skull[i], points)
        candidates = in_skull + self._grid.read(frames.displacement[i], in_skull)
        lower, upper = self._articulated_box
        ambiguous = Rows(((in_skull > lower) & (in_skull < upper)).all(1), fixed)
        nearer = self._nearer_layer(torch.stack([ambiguous.gather(candidate) for candidate in candidates]))
        return ambiguous.scatter(candidates[0], nearer)

    def _nearer_layer(self, candidates: Float[Tensor, "2 points 3"]) -> Float[Tensor, "points 3"]:
        """The candidate that is nearer to its own layer's surface.

        Distances inside a layer count half. A point just under the skin of one lip is equally near to the other lip
        that touches it, and belongs to the lip that contains it.
        """
        signed = torch.stack([self.space.layer_distance(i, c) for i, c in enumerate(candidates)])
        distance = torch.where(signed > 0, signed, -_INSIDE_WEIGHT * signed)
        return torch.where((distance[1] < distance[0])[:, None], candidates[1], candidates[0])

    def _displacement(
        self, states: HeadState, posed: PosedHead, T_canonical_skull: Tensor
    ) -> Float[Tensor, "frames 6 z y x"]:
        """Displacement grids of a few frames; a CPU keeps the latest."""
        if not self.config.undo_face:
            return posed.verts.new_zeros(len(states), 6, *self._grid.shape)
        if states.expression.is_cuda:
            return self._grid.splat(self._in_skull(posed, T_canonical_skull))
        driving = torch.cat([states.expression, states.jaw, states.eyes, states.neck], -1).numpy()
        keys = [row.tobytes() for row in driving]
        kept = {key: self._latest[key] for key in keys if key in self._latest}
        missing = [i for i, key in enumerate(keys) if key not in kept]
        if missing:
            grids = self._grid.splat(self._in_skull(posed, T_canonical_skull)[missing])
            kept |= {keys[i]: grid.half() for i, grid in zip(missing, grids, strict=True)}
        self._latest = kept  # a viewer renders one head state many times
        return torch.stack([kept[key] for key in keys]).float()

    def _in_skull(self, posed: PosedHead, T_canonical_skull: Tensor) -> Float[Tensor, "frames verts 3"]:
        """Vertices in the skull's frame, without global, neck and torso motion."""
        T_skull = torch.einsum("fab,fjbc->fjac", T_canonical_skull, posed.T_world_rest)
        G = torch.einsum("vj,fjab->fvab", self._weights, T_skull)
        return transform_points(G, self.head.verts_rest + posed.offsets)
