"""Inverse skinning: a point seen in a frame goes back to the canonical head.

The canonical head is the person without expression, jaw slightly open (so that the lips do not touch), eyes and
neck at rest. Forward, a canonical vertex c_v is posed by the affine map of its vertex

    x_v = G_v(posed) (rest_v + d_v(posed)),    c_v = G_v(canonical) (rest_v + d_v(canonical))

with G_v the blended joint transforms and d_v expression and pose correctives. So M_v, the map of a whole
neighbourhood from posed to canonical with M_v(x_v) = c_v, is G_v(canonical) o shift(d_can - d_posed) o G_v(posed)^-1. A
point takes the mean of its nearest vertices' maps, weighted so that a neighbour fades out before another takes its
place; neighbours across a fold (the other lip, the other eyelid) are left out by their canonical distance.
Away from the surface the map fades to the rigid motion of skull or torso, which hair and glasses follow.

Points are metres in the world frame. Nothing here is differentiable but the torso's pose. The equations of
skinning are FLAME's; the neighbour weights, the fall-off and the torso bone are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.flame.posing import PosedHead, ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.neighbors import VertexIndex
from partnerface_ns.geometry.rigid import invert_3x3, invert_rigid, transform_points

_ROOT, _NECK, _JAW = 0, 1, 2


@dataclass
class InverseSkinningConfig:
    """How a point finds the surface that it moves with."""

    num_neighbors: int = 5
    """Nearest vertices a point takes its motion from; the farthest has weight zero (at least 2)."""
    falloff_start: float = 0.006
    """Distance from the surface in metres up to which a point moves fully with it."""
    falloff_end: float = 0.04
    """Distance in metres from which a point moves rigidly with skull or torso."""
    canonical_jaw: float = 0.2
    """Opening of the canonical jaw in radians, so that the lips are apart."""


@dataclass(frozen=True)
class SkinnedFrames:
    """The posed surface of a few frames, ready to be asked."""

    verts: Float[Tensor, "frames verts 3"]
    maps: Float[Tensor, "frames_verts 24"]
    """Per frame and vertex two affine maps (3x4, row-major) to the canonical head: with the surface, and rigid."""
    T_rest_torso: Float[Tensor, "frames 4 4"]
    """Rest from world through the torso bone; carries the gradient of the torso's pose."""
    T_rest_skull: Float[Tensor, "frames 4 4"]
    """Rest from world through the skull (the neck joint); the frame of occupancy and view directions."""
    indices: tuple[VertexIndex, ...]


@dataclass(frozen=True)
class CanonicalPoints:
    """Where inverse skinning puts points."""

    points: Float[Tensor, "points 3"]
    """Canonical frame, metres."""
    distance: Float[Tensor, "points"]
    """To the nearest posed vertex, metres."""
    torso: Float[Tensor, "points"]
    """Share in [0, 1] in which the point moves with the torso."""


class InverseSkinning:
    """Maps points of posed frames to the canonical head of one person."""

    def __init__(self, config: InverseSkinningConfig, head: ShapedHead) -> None:
        self.config = config
        self.head = head
        canonical = HeadState.neutral(head.model.num_expr)
        canonical.jaw[0] = config.canonical_jaw
        self.canonical: PosedHead = head.pose(canonical.to(head.verts_rest.device))
        weights = head.model.skinning_weights
        self.torso_weights = weights[:, _ROOT]
        # Away from the surface everything above the shoulders moves with the skull.
        self._rigid_weights = torch.zeros_like(weights)
        self._rigid_weights[:, _ROOT] = weights[:, _ROOT]
        self._rigid_weights[:, _NECK] = 1 - weights[:, _ROOT]
        self._G_canonical = self.canonical.skinning(weights)
        self._G_canonical_rigid = self.canonical.skinning(self._rigid_weights)

    @torch.no_grad()
    def _posed(self, states: HeadState, T_world_torso: Tensor | None) -> PosedHead:
        posed = self.head.pose(states)
        if T_world_torso is None:
            return posed
        T_world_rest = posed.T_world_rest.clone()
        T_world_rest[:, _ROOT] = T_world_torso
        posed = PosedHead(posed.verts, posed.offsets, T_world_rest)
        G = posed.skinning(self.head.model.skinning_weights)
        return PosedHead(transform_points(G, self.head.verts_rest + posed.offsets), posed.offsets, T_world_rest)

    def frames(self, states: HeadState, T_world_torso: Float[Tensor, "frames 4 4"] | None = None) -> SkinnedFrames:
        """Pose the surface of each frame and prepare its maps.

        Args:
            states: head states, batch axes (frames,).
            T_world_torso: pose of the torso bone, which then replaces the head model's root joint; its
                gradient flows through `__call__`.
        """
        posed = self._posed(states, None if T_world_torso is None else T_world_torso.detach())
        with torch.no_grad():
            rest = self.head.verts_rest
            surface = _back_map(
                posed.skinning(self.head.model.skinning_weights),
                rest + posed.offsets,
                self._G_canonical,
                rest + self.canonical.offsets,
            )
            rigid = _back_map(posed.skinning(self._rigid_weights), rest, self._G_canonical_rigid, rest)
            maps = torch.cat([surface, rigid], -1).flatten(0, 1)
        T_root = posed.T_world_rest[:, _ROOT] if T_world_torso is None else T_world_torso
        return SkinnedFrames(
            verts=posed.verts,
            maps=maps,
            T_rest_torso=invert_rigid(T_root),
            T_rest_skull=invert_rigid(posed.T_world_rest[:, _NECK]),
            indices=tuple(VertexIndex(v) for v in posed.verts),
        )

    def __call__(
        self, points: Float[Tensor, "points 3"], frame: Int[Tensor, "points"], frames: SkinnedFrames
    ) -> CanonicalPoints:
        """Canonical place of each point.

        Args:
            points: world frame, metres; points of one frame should lie together (any order is right, runs are fast).
            frame: index into `frames` of each point.
        """
        with torch.no_grad():
            distance, index = self._neighbors(points, frame, frames)
            weights = self._weights(distance, index)
            surface, torso = self._blend(points, distance, index, weights, frame, frames)
        if frames.T_rest_torso.requires_grad:
            at_torso = transform_points(frames.T_rest_torso[frame], points)
            surface = surface + torso[:, None] * (at_torso - at_torso.detach())
        return CanonicalPoints(surface, distance[:, 0], torso)

    def _neighbors(self, points: Tensor, frame: Tensor, frames: SkinnedFrames) -> tuple[Tensor, Tensor]:
        num = self.config.num_neighbors
        distance = points.new_empty(points.shape[0], num)
        index = torch.empty(points.shape[0], num, dtype=torch.long, device=points.device)
        for i, vertex_index in enumerate(frames.indices):
            mine = frame == i
            found = vertex_index.query(points[mine], num)
            distance[mine], index[mine] = found.distance, found.index
        return distance, index

    def _weights(self, distance: Tensor, index: Tensor) -> Float[Tensor, "points neighbors"]:
        """Blend weights that sum to one, vary continuously, and ignore the far side of a fold."""
        # Shepard's weights, faded to zero at the last neighbour; 1e-6 m keeps a point on a vertex finite.
        closeness = 1 / (distance + 1e-6)
        fade = (1 - distance / distance[:, -1:].clamp(min=1e-9)).clamp(min=1e-6) ** 2 * closeness
        canonical = self.canonical.verts[index]
        apart = (canonical - canonical[:, :1]).norm(dim=-1)
        posed_reach = distance + distance[:, :1]
        weights = fade * (apart < 2 * posed_reach + 0.003)
        return weights / weights.sum(1, keepdim=True)

    def _blend(
        self, points: Tensor, distance: Tensor, index: Tensor, weights: Tensor, frame: Tensor, frames: SkinnedFrames
    ) -> tuple[Tensor, Tensor]:
        rows = index + frame[:, None] * self.torso_weights.shape[0]
        maps = F.embedding_bag(rows, frames.maps, per_sample_weights=weights, mode="sum").reshape(-1, 2, 3, 4)
        both = torch.einsum("psab,pb->psa", maps[..., :3], points) + maps[..., 3]
        torso = (weights * self.torso_weights[index]).sum(1)
        c = self.config
        rigid_share = smoothstep((distance[:, 0] - c.falloff_start) / (c.falloff_end - c.falloff_start))
        return torch.lerp(both[:, 0], both[:, 1], rigid_share[:, None]), torso


def smoothstep(x: Tensor) -> Tensor:
    """0 below 0, 1 above 1, and a smooth cubic between."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _back_map(
    G_posed: Float[Tensor, "frames verts 4 4"],
    before_posed: Float[Tensor, "*frames verts 3"],
    G_canonical: Float[Tensor, "verts 4 4"],
    before_canonical: Float[Tensor, "verts 3"],
) -> Float[Tensor, "frames verts 12"]:
    """Affine map 3x4 of each vertex from posed to canonical that takes the vertex itself exactly."""
    linear = G_canonical[:, :3, :3] @ invert_3x3(G_posed[..., :3, :3])
    posed, canonical = transform_points(G_posed, before_posed), transform_points(G_canonical, before_canonical)
    shift = canonical - torch.einsum("fvab,fvb->fva", linear, posed)
    return torch.cat([linear, shift[..., None]], -1).flatten(-2)
