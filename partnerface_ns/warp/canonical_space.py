"""What is known of the canonical space before training: where the surface is, and what moves with the torso.

Computed once for a person from the exact nearest surface points, kept on a grid, read by interpolation.
Points are metres in the canonical frame; the grid's axes are (z, y, x), as `grid_sample` wants them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.joints import Joint
from partnerface_ns.geometry.neighbors import VertexIndex
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.geometry.volumes import read_volume

_NUM_NEIGHBORS = 4


@dataclass
class CanonicalSpaceConfig:
    """Where there may be matter."""

    reach_face: float = 0.04
    """Height in metres above the face up to which there may be matter: beard, glasses."""
    reach_hair: float = 0.07
    """The same above the rest of the head and the neck."""
    reach_torso: float = 0.04
    """The same above the torso."""
    resolution: int = 96
    """Nodes a side of the grid that remembers it."""


class CanonicalSpace:
    """Height above the surface, room for matter, and torso share, anywhere in the canonical box."""

    def __init__(self, config: CanonicalSpaceConfig, verts: Float[Tensor, "verts 3"], model: HeadModel) -> None:
        """
        Args:
            verts: the canonical surface.
            model: gives faces, weights and regions.
        """
        padding = max(config.reach_face, config.reach_hair, config.reach_torso)
        self.lower, self.upper = verts.amin(0) - padding, verts.amax(0) + padding
        axes = [
            torch.linspace(float(a), float(b), config.resolution) for a, b in zip(self.lower, self.upper, strict=True)
        ]
        z, y, x = torch.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
        nodes = torch.stack([x, y, z], -1).reshape(-1, 3).to(verts.device)

        # Eyeballs are balls of their own: inside them the skin of the sockets, a millimetre off, says "outside".
        loose, eyeballs = is_articulated(model), model.regions["eyeballs"] > 0.5
        height, mean = self._heights(nodes, verts, model, ~eyeballs)
        if eyeballs.any():
            height = torch.minimum(height, self._heights(nodes, verts, model, eyeballs)[0])
        heights = [self._heights(nodes, verts, model, layer)[0] for layer in (~loose, loose)]
        known = torch.stack(
            [height, mean(_reach(config, model)) - height, mean(model.skinning_weights[:, Joint.ROOT]), *heights]
        )
        self._grid = known.reshape(5, *[config.resolution] * 3)

    @staticmethod
    def _heights(
        nodes: Tensor, verts: Tensor, model: HeadModel, layer: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Height of nodes above a part of the surface, and the weighted mean of its nearest vertices' values."""
        distance, index = VertexIndex(verts[layer]).query(nodes, _NUM_NEIGHBORS)
        index = layer.nonzero()[:, 0][index]
        closeness = 1 / (distance + 1e-4)
        weights = closeness / closeness.sum(1, keepdim=True)
        height = signed_distance(nodes, verts, model.faces, distance, index, weights)
        return height, lambda values: (weights * values[index]).sum(1)

    def distance_and_clearance(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "2 points"]:
        """Signed height above the surface (m), and room left above it (m, negative where nothing may be)."""
        return self._read(slice(0, 2), points)

    def torso_share(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points"]:
        """Share in [0, 1] in which each point moves with the torso."""
        return self._read(slice(2, 3), points)[0]

    def layer_distance(self, layer: int, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points"]:
        """Signed height (m) above the part of the surface that moves with the skull (0) or a joint of its own (1)."""
        return self._read(slice(3 + layer, 4 + layer), points)[0]

    def _read(self, channels: slice, points: Tensor) -> Tensor:
        at = 2 * (points - self.lower) / (self.upper - self.lower) - 1
        return read_volume(self._grid[channels], at, "border")


def is_articulated(model: HeadModel) -> Bool[Tensor, "verts"]:
    """Which vertices move mostly with a joint below the skull: lower face and lower teeth, and the eyeballs."""
    return model.skinning_weights[:, Joint.JAW :].sum(1) > 0.5


def signed_distance(
    points: Float[Tensor, "points 3"],
    verts: Float[Tensor, "verts 3"],
    faces: Int[Tensor, "faces 3"],
    distance: Float[Tensor, "points neighbors"],
    index: Int[Tensor, "points neighbors"],
    weights: Float[Tensor, "points neighbors"],
) -> Float[Tensor, "points"]:
    """Height above the surface from the tangent planes of the nearest vertices, metres, negative inside.

    Beyond the mesh's borders and sharp edges the tangent planes say nothing; there the distance counts.
    """
    above = (weights * (vertex_normals(verts, faces)[index] * (points[:, None] - verts[index])).sum(-1)).sum(1)
    size = torch.maximum(above.abs(), distance[:, 0] - _edge_length(verts, faces)[index[:, 0]])
    return torch.where(above < 0, -size, size)


def _edge_length(verts: Float[Tensor, "verts 3"], faces: Int[Tensor, "faces 3"]) -> Float[Tensor, "verts"]:
    """Mean length in metres of the edges at each vertex."""
    length = (verts[faces] - verts[faces.roll(1, 1)]).norm(dim=-1)
    total = verts.new_zeros(verts.shape[0]).index_add(0, faces.flatten(), length.flatten())
    count = verts.new_zeros(verts.shape[0]).index_add(0, faces.flatten(), torch.ones_like(length).flatten())
    return total / count.clamp(min=1)


def _reach(config: CanonicalSpaceConfig, model: HeadModel) -> Float[Tensor, "verts"]:
    """Height above each vertex up to which there may be matter."""
    face, torso = model.regions["face"], model.regions["torso"]
    on_head = config.reach_hair + (config.reach_face - config.reach_hair) * face
    return on_head + (config.reach_torso - on_head) * torso
