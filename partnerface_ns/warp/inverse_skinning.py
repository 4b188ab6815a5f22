"""Inverse skinning: a point seen in a frame goes back to the canonical head.

The canonical head is the person without expression, jaw slightly open (so that the lips do not touch), eyes and
neck at rest. A world point x is carried by two rigid bones and, on the face, by a displacement field:

    c_skull = y + D(y),   y = T_skull x        (T_skull: inverse of the neck joint's transform)
    c_torso = T_torso x                        (T_torso: inverse of the torso bone's transform)
    c       = (1 - w) c_skull + w c_torso      (w: torso share of the skinning weights at c)

D undoes jaw, eyes, expression and pose correctives. In the skull's frame the surface of a moment has vertices

    y_v = G_v (rest_v + d_v),   G_v = sum_j w_vj T_skull T_j   (root and neck count as one bone)

and must land on the canonical vertices c_v, so D(y_v) = c_v - y_v. `displacement_grid` spreads these values over a
grid that is fine at mouth and eyes: once for what moves with a joint of its own (lower face and eyeballs), once for all
else, because lips touch and lids slide over eyeballs. Of the two places that a point may come from, the one nearer to
its own layer's surface is taken. Away from the surface D fades to zero, so hair and glasses stay with the skull.

Points are metres. Nothing here is differentiable but the torso's pose. The equations of skinning are FLAME's;
the grid, the fall-off and the torso bone are our choice.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

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

_MARGIN = 0.03
"""Metres around lower face, eyeballs and torso in which points are asked whether they move with them."""
_CACHED_BYTES = 1 << 30
"""Memory for displacement grids of moments that training saw before, on a CPU; a GPU makes them anew faster than it
finds them."""
_DEPTH_COUNTS = 0.5
"""How much a metre below a layer's surface counts against a point's belonging to it; a metre above counts as one."""


@dataclass
class InverseSkinningConfig:
    """How a point finds the surface that it moves with."""

    canonical_jaw: float = 0.2
    """Opening of the canonical jaw in radians, so that the lips are apart."""
    undo_face: bool = True
    """Whether jaw, eyes, expression and pose correctives are undone; without it the skull's pose alone, to compare with
    fields that are told the expression and know no skinning (NerFace)."""


@dataclass(frozen=True)
class PosedFrames:
    """What a few head states alone say of their frames; nothing in it is learned."""

    displacement: Float[Tensor, "frames 6 z y x"]
    """D of each frame on the grid's nodes, metres."""
    T_canonical_skull: Float[Tensor, "frames 4 4"]
    """Canonical from world through the skull; the frame of view directions."""
    T_world_root: Float[Tensor, "frames 4 4"]
    """World from canonical through the head model's root joint."""
    verts: Float[Tensor, "frames verts 3"]
    """Posed surface, world frame."""


@dataclass(frozen=True)
class SkinnedFrames(PosedFrames):
    """A few frames, ready to be asked."""

    T_canonical_torso: Float[Tensor, "frames 4 4"]
    """Canonical from world through the torso bone; carries the gradient of the torso's pose."""


@dataclass(frozen=True)
class CanonicalPoints:
    """Where inverse skinning puts points."""

    points: Float[Tensor, "points 3"]
    """Canonical frame, metres."""
    torso: Float[Tensor, "points"]
    """Share in [0, 1] in which the point moves with the torso."""


class InverseSkinning:
    """Maps points of posed frames to the canonical head of one person."""

    def __init__(
        self,
        config: InverseSkinningConfig,
        grid: DisplacementGridConfig,
        space: CanonicalSpaceConfig,
        head: ShapedHead,
    ) -> None:
        self.config, self.head = config, head
        canonical = HeadState.neutral(head.model.num_expr)
        canonical.jaw[0] = config.canonical_jaw
        self.canonical: PosedHead = head.pose(canonical.to(head.verts_rest.device))
        self.space = CanonicalSpace(space, self.canonical.verts, head.model)
        self._weights = head.model.skinning_weights.clone()
        self._weights[:, Joint.NECK] += self._weights[:, Joint.ROOT]
        self._weights[:, Joint.ROOT] = 0
        self._grid = DisplacementGrid(grid, self.canonical.verts, head.model)
        regions = head.model.regions
        self.verts_in_mouth = self.canonical.verts[(regions["inside_mouth"] > 0.5) & (regions["lips"] < 0.5)]
        """Canonical vertices of teeth, tongue and the mouth's walls, as far as the head model has them; metres."""
        on_torso, loose = head.model.skinning_weights[:, Joint.ROOT] > 0.01, is_articulated(head.model)
        verts = self.canonical.verts
        self._torso_top = verts[on_torso, 1].amax() + _MARGIN if on_torso.any() else -torch.inf
        self._loose_box = (verts[loose].amin(0) - _MARGIN, verts[loose].amax(0) + _MARGIN)
        self._cache: OrderedDict[bytes, Tensor] = OrderedDict()
        self._latest: dict[bytes, Tensor] = {}

    def pose(self, states: HeadState, head: PosedHead | None = None) -> PosedFrames:
        """Pose the head; nothing of it is differentiable.

        Args:
            states: batch axes (frames,).
            head: the person's head in these states, where it is known already.
        """
        again = torch.is_grad_enabled()  # training sees its moments again; others pass by
        with torch.no_grad():
            posed = head or self.head.pose(states)
            T_canonical_skull = invert_rigid(posed.T_world_rest[:, Joint.NECK])
            displacement = self._displacement(states, posed, T_canonical_skull, again)
        return PosedFrames(displacement, T_canonical_skull, posed.T_world_rest[:, Joint.ROOT], posed.verts)

    def skin_frames(
        self, posed: PosedFrames | HeadState, T_world_torso: Float[Tensor, "frames 4 4"] | None = None
    ) -> SkinnedFrames:
        """Prepare frames.

        Args:
            posed: from `pose`, or the head states themselves, batch axes (frames,).
            T_world_torso: pose of the torso bone, which then replaces the head model's root joint; its
                gradient flows through `__call__`.
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
        """Canonical place of each point.

        Args:
            points: world frame, metres.
            frame: index into `frames` of each point, ascending.
            fixed: whether shapes are fixed (`geometry/rows.py`).
        """
        runs = list(enumerate(points.split(run_lengths(frame, frames.displacement.shape[0], fixed))))
        with torch.no_grad():
            at_skull = torch.cat([self._undo_face(frames, i, run, fixed) for i, run in runs])
            low = Rows(at_skull[:, 1] < self._torso_top, fixed)
            from_skull = low.gather(at_skull)
        from_torso = low.gather(torch.cat([move_points(frames.T_canonical_torso[i], run) for i, run in runs]))
        with torch.no_grad():
            # The share is a smooth function of the place that it leads to: two rounds find both.
            share = self.space.torso_share(from_skull)[:, None]
            share = self.space.torso_share(torch.lerp(from_skull, from_torso, share))[:, None]
        canonical = low.scatter(at_skull, torch.lerp(from_skull, from_torso, share))
        return CanonicalPoints(canonical, low.scatter(at_skull.new_zeros(len(points)), share[:, 0]))

    def _undo_face(self, frames: SkinnedFrames, i: int, points: Tensor, fixed: bool) -> Float[Tensor, "points 3"]:
        """Canonical place of points of frame i as far as the skull carries them."""
        in_skull = move_points(frames.T_canonical_skull[i], points)
        candidates = in_skull + self._grid.read(frames.displacement[i], in_skull)
        lower, upper = self._loose_box
        unsure = Rows(((in_skull > lower) & (in_skull < upper)).all(1), fixed)
        nearer = self._nearer_layer(torch.stack([unsure.gather(candidate) for candidate in candidates]))
        return unsure.scatter(candidates[0], nearer)

    def _nearer_layer(self, candidates: Float[Tensor, "2 points 3"]) -> Float[Tensor, "points 3"]:
        """Of two places that a point may come from, the one that lies nearer to its own layer's surface.

        Depth counts less than height: just under the skin of one of two lips that touch, the other's is as near.
        """
        height = torch.stack([self.space.layer_distance(i, c) for i, c in enumerate(candidates)])
        off = torch.where(height > 0, height, -_DEPTH_COUNTS * height)
        return torch.where((off[1] < off[0])[:, None], candidates[1], candidates[0])

    def _displacement(self, states: HeadState, posed: PosedHead, T_canonical_skull: Tensor, again: bool) -> Tensor:
        """Grids of some moments; kept if they come again."""
        if not self.config.undo_face:
            return posed.verts.new_zeros(len(states), 6, *self._grid.shape)
        if states.expression.is_cuda:
            return self._grid.splat(self._in_skull(posed, T_canonical_skull))
        driving = torch.cat([states.expression, states.jaw, states.eyes, states.neck], -1).numpy()
        keys = [row.tobytes() for row in driving]
        known = {key: grids[key] for grids in (self._latest, self._cache) for key in keys if key in grids}
        missing = [i for i, key in enumerate(keys) if key not in known]
        if missing:
            grids = self._grid.splat(self._in_skull(posed, T_canonical_skull)[missing])
            made = {keys[i]: grid.half() for i, grid in zip(missing, grids, strict=True)}
            known |= made
            if again:
                self._cache.update(made)
        self._latest = known  # a page turns around one face
        found = torch.stack([known[key] for key in keys]).float()
        while len(self._cache) * found[0].numel() * 2 > _CACHED_BYTES:
            self._cache.popitem(last=False)
        return found

    def _in_skull(self, posed: PosedHead, T_canonical_skull: Tensor) -> Float[Tensor, "frames verts 3"]:
        """The surface as the skull sees it, without global, neck and torso motion."""
        T_skull = torch.einsum("fab,fjbc->fjac", T_canonical_skull, posed.T_world_rest)
        G = torch.einsum("vj,fjab->fvab", self._weights, T_skull)
        return transform_points(G, self.head.verts_rest + posed.offsets)
