"""Precomputed properties of the canonical space: signed distance to the mesh, clearance, steepness and torso share.

The clearance of a point is its distance to the outer limit of density: the reach of hair, clothes or glasses from the
mesh. The steepness is a factor on the fall-off of the expected density. All of them follow from the nearest vertices,
are computed once for a person, and are stored on a grid. Reads interpolate. Points are metres in the canonical frame.
The grid has axes (z, y, x), as `grid_sample` requires.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.joints import Joint
from partnerface_ns.geometry.neighbors import VertexIndex
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.geometry.volumes import read_volume

_NUM_NEIGHBORS = 4
_LONGEST = 0.5
"""Longest reach that can be set, metres."""
_WITHOUT_MATTES = (0.04, 0.07, 0.04)
"""Reach from face, rest of the head, and torso of a person without mattes, metres."""


@dataclass
class CanonicalSpaceConfig:
    """Where density may be, and the grid that stores it."""

    reach_face: float | None = None
    """Largest distance in metres from the face at which density may be, as for beards and glasses. None measures it in
    the mattes of training frames; without mattes it is 4 cm."""
    reach_hair: float | None = None
    """The same from the rest of the head and the neck; without mattes it is 7 cm."""
    reach_torso: float | None = None
    """The same from the torso; without mattes it is 4 cm."""
    mouth_steepness: float = 3.0
    """Steepness at the lips and inside the mouth; it is 1 elsewhere."""
    resolution: int = 96
    """Nodes along each side of the grid."""
    ABSENT: ClassVar[dict[str, float]] = {"mouth_steepness": 1.0}

    def __post_init__(self) -> None:
        for name in ("reach_face", "reach_hair", "reach_torso"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= _LONGEST:
                raise InputError(
                    "space", "not a usable reach", key=name, expected=f"metres, up to {_LONGEST:g}", actual=value
                )

    def reach(self, measured: Float[Tensor, "3"] | None = None) -> Float[Tensor, "3"]:
        """Reach from the face, from the rest of the head and the neck, and from the torso, metres.

        Args:
            measured: the person's own reach in this order; NaN where it is not known. None knows nothing.
        """
        fallback = torch.tensor(_WITHOUT_MATTES)
        known = fallback if measured is None else torch.where(measured.isnan(), fallback, measured.to(fallback))
        chosen = (self.reach_face, self.reach_hair, self.reach_torso)
        return torch.tensor([k if c is None else c for k, c in zip(known.tolist(), chosen, strict=True)])

    def with_reach(self, reach: Float[Tensor, "3"]) -> CanonicalSpaceConfig:
        """The settings with this reach, in the order of `reach`."""
        face, hair, torso = reach.tolist()
        return replace(self, reach_face=face, reach_hair=hair, reach_torso=torso)


class CanonicalSpace:
    """Signed distance to the mesh, clearance, steepness and torso share at points of the canonical box."""

    def __init__(self, config: CanonicalSpaceConfig, verts: Float[Tensor, "verts 3"], model: HeadModel) -> None:
        """
        Args:
            config: reach of density, and the grid's resolution.
            verts: the canonical mesh's vertices, metres.
            model: gives faces, skinning weights and regions.
        """
        reach = config.reach()
        self.padding = float(reach.max())
        """Largest distance from the mesh at which density may be, metres."""
        self.lower, self.upper = verts.amin(0) - self.padding, verts.amax(0) + self.padding
        axes = [
            torch.linspace(float(a), float(b), config.resolution) for a, b in zip(self.lower, self.upper, strict=True)
        ]
        z, y, x = torch.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
        nodes = torch.stack([x, y, z], -1).reshape(-1, 3).to(verts.device)

        # Eyeballs are separate balls. Inside one, the skin of the socket is a millimetre away and reports "outside".
        articulated, eyeballs = is_articulated(model), model.regions["eyeballs"] > 0.5
        distance, interpolate = self._distances(nodes, verts, model, ~eyeballs)
        if eyeballs.any():
            distance = torch.minimum(distance, self._distances(nodes, verts, model, eyeballs)[0])
        layers = [self._distances(nodes, verts, model, layer)[0] for layer in (~articulated, articulated)]
        clearance = interpolate(_reach_of_verts(reach, model)) - distance
        torso = interpolate(model.skinning_weights[:, Joint.ROOT])
        mouth = torch.maximum(model.regions["lips"], model.regions["inside_mouth"])
        steepness = 1 + (config.mouth_steepness - 1) * interpolate(mouth)
        channels = [distance, clearance, steepness, torso, *layers]
        self._grid = torch.stack(channels).reshape(len(channels), *[config.resolution] * 3)

    @staticmethod
    def _distances(
        nodes: Tensor, verts: Tensor, model: HeadModel, layer: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Signed distances to the vertices of a layer, and a function that interpolates values of its vertices."""
        distance, index = VertexIndex(verts[layer]).query(nodes, _NUM_NEIGHBORS)
        index = layer.nonzero()[:, 0][index]
        closeness = 1 / (distance + 1e-4)
        weights = closeness / closeness.sum(1, keepdim=True)
        signed = signed_distance(nodes, verts, model.faces, distance, index, weights)
        return signed, lambda values: (weights * values[index]).sum(1)

    def distance_and_clearance(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "2 points"]:
        """Signed distance to the mesh, and clearance, metres.

        The distance is negative inside the mesh. The clearance is negative where no density may be.
        """
        return self._read(slice(0, 2), points)

    def distance_clearance_and_steepness(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "3 points"]:
        """Signed distance and clearance, metres, and steepness.

        The steepness is `mouth_steepness` at the lips and inside the mouth, and 1 elsewhere.
        """
        return self._read(slice(0, 3), points)

    def torso_share(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points"]:
        """Share in [0, 1] to which each point moves with the torso."""
        return self._read(slice(3, 4), points)[0]

    def layer_distance(self, layer: int, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points"]:
        """Signed distance in metres to one layer of the mesh: 0 is fixed to the skull, 1 is articulated."""
        return self._read(slice(4 + layer, 5 + layer), points)[0]

    def _read(self, channels: slice, points: Tensor) -> Tensor:
        normalized = 2 * (points - self.lower) / (self.upper - self.lower) - 1
        return read_volume(self._grid[channels], normalized, "border")


def is_articulated(model: HeadModel) -> Bool[Tensor, "verts"]:
    """Vertices that move mostly with a joint below the skull: lower face, lower teeth and eyeballs."""
    return model.skinning_weights[:, Joint.JAW :].sum(1) > 0.5


def signed_distance(
    points: Float[Tensor, "points 3"],
    verts: Float[Tensor, "verts 3"],
    faces: Int[Tensor, "faces 3"],
    distance: Float[Tensor, "points neighbors"],
    index: Int[Tensor, "points neighbors"],
    weights: Float[Tensor, "points neighbors"],
) -> Float[Tensor, "points"]:
    """Signed distance to the mesh from the tangent planes of the nearest vertices, metres, negative inside.

    Tangent planes are wrong beyond borders and sharp edges of the mesh. There the distance to the nearest vertex, less
    an edge length, is larger and replaces the planes' value.

    Args:
        points: metres.
        verts: metres.
        faces: vertex indices.
        distance: to each point's nearest vertices, ascending, metres.
        index: indices of these vertices.
        weights: their weights, which sum to one.
    """
    normals = vertex_normals(verts, faces)[index]
    plane = (weights * (normals * (points[:, None] - verts[index])).sum(-1)).sum(1)
    size = torch.maximum(plane.abs(), distance[:, 0] - _edge_length(verts, faces)[index[:, 0]])
    return torch.where(plane < 0, -size, size)


def _edge_length(verts: Float[Tensor, "verts 3"], faces: Int[Tensor, "faces 3"]) -> Float[Tensor, "verts"]:
    """Mean length of the edges at each vertex, metres."""
    length = (verts[faces] - verts[faces.roll(1, 1)]).norm(dim=-1)
    total = verts.new_zeros(verts.shape[0]).index_add(0, faces.flatten(), length.flatten())
    count = verts.new_zeros(verts.shape[0]).index_add(0, faces.flatten(), torch.ones_like(length).flatten())
    return total / count.clamp(min=1)


def _reach_of_verts(reach: Float[Tensor, "3"], model: HeadModel) -> Float[Tensor, "verts"]:
    """Largest distance from each vertex at which density may be, metres."""
    face, torso = model.regions["face"], model.regions["torso"]
    of_face, of_hair, of_torso = reach.tolist()
    on_head = of_hair + (of_face - of_hair) * face
    return on_head + (of_torso - on_head) * torso
