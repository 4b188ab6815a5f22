"""Displacement field around a moving surface, on a grid that is fine at mouth and eyes.

Known displacements of the surface are splatted trilinearly onto the grid's nodes. Push-pull over a pyramid of coarser
grids fills the empty nodes: each level fills the gaps of the next finer one. Coarse levels also mix in zero
displacement, so the field fades out within a few centimetres. Splatting costs a few thousand additions, needs no
search, and handles many frames at once on any device.

Lips touch but move apart, and lids slide over eyeballs. Therefore there are two layers. One follows the articulated
surface (lower face and eyeballs), the other everything else; the caller chooses between them. Points are metres in the
skull's frame. Grids have axes (z, y, x), as `grid_sample` requires.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.joints import Joint
from partnerface_ns.geometry.encodings import asinh
from partnerface_ns.geometry.volumes import read_volume, refine
from partnerface_ns.warp.canonical_space import is_articulated

_SAMPLE_SPACING = 0.003
"""Metres between the surface samples that are splatted."""
_GUESS_WEIGHT = 0.05
"""Weight of the coarser level's value at a node; a surface sample's weight is about 1."""


@dataclass
class DisplacementGridConfig:
    """Nodes and extent of a frame's displacement grid."""

    shape: tuple[int, int, int] = (48, 64, 48)
    """Nodes along x, y and z of the head; multiples of 16."""
    spacing: float = 0.05
    """Distance in metres from the face's centre at which cells are 1.4 times as large as at the centre."""
    padding: float = 0.02
    """Margin in metres around the moving part of the canonical head."""
    stillness: float = 0.02
    """How fast the field fades away from the surface; 0 extends the surface's motion without limit."""


class DisplacementGrid:
    """Writes displacements of one head's surface to a grid, and reads them at points."""

    def __init__(
        self, config: DisplacementGridConfig, verts_canonical: Float[Tensor, "verts 3"], model: HeadModel
    ) -> None:
        """
        Args:
            config: nodes and extent.
            verts_canonical: the canonical mesh's vertices, metres.
            model: gives faces, skinning weights and regions.
        """
        self.config = config
        self._canonical = verts_canonical
        on_head = model.skinning_weights[:, Joint.ROOT] < 0.5
        face = model.regions["face"] > 0.5
        head, front = verts_canonical[on_head], verts_canonical[face]
        self._center = (front.amin(0) + front.amax(0)) / 2
        low, high = head.amin(0) - config.padding, head.amax(0) + config.padding
        self._low, self._high = self._stretch(low), self._stretch(high)
        articulated = is_articulated(model)
        layers = []
        for layer in (on_head & ~articulated, on_head & articulated):
            inside = layer[model.faces].sum(1) >= 2
            layers.append(sample_surface(verts_canonical, model.faces[inside], _SAMPLE_SPACING))
        self._triangles, self._barycentric, area = (torch.cat(parts) for parts in zip(*layers, strict=True))
        sizes = torch.tensor([len(samples.area) for samples in layers])
        self._layer = torch.arange(2).repeat_interleave(sizes).to(verts_canonical.device)
        self._weight = area / _SAMPLE_SPACING**2
        self._sizes = torch.tensor(config.shape, device=verts_canonical.device)
        _, rows, columns = self.shape
        corners = [(z * rows + y) * columns + x for z, y, x in product((0, 1), repeat=3)]
        self._corners = torch.tensor(corners, device=verts_canonical.device)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Nodes along z, y and x."""
        x, y, z = self.config.shape
        return z, y, x

    def splat(self, verts_skull: Float[Tensor, "frames verts 3"]) -> Float[Tensor, "frames 6 z y x"]:
        """Displacement fields of each frame: three channels of the fixed layer, then three of the articulated one.

        Args:
            verts_skull: the surface in the skull's frame.
        """
        num_frames, num_nodes = verts_skull.shape[0], math.prod(self.shape)
        displacement = self._canonical - verts_skull
        position = torch.einsum("sk,fskc->fsc", self._barycentric, verts_skull[:, self._triangles])
        value = torch.einsum("sk,fskc->fsc", self._barycentric, displacement[:, self._triangles])
        value = F.pad(value, (0, 1), value=1.0) * self._weight[:, None]
        sizes = self._sizes
        node = (self._normalize(position) + 1) / 2 * (sizes - 1)
        node = node.clamp(min=torch.zeros_like(sizes), max=sizes - 1.001)
        x, y, z = node.long().unbind(-1)
        first = (2 * torch.arange(num_frames, device=node.device)[:, None] + self._layer) * num_nodes
        index = (first + (z * self.shape[1] + y) * self.shape[2] + x)[..., None] + self._corners
        x, y, z = torch.stack([1 - node.frac(), node.frac()], -1).unbind(-2)
        weight = (z[..., :, None, None] * y[..., None, :, None] * x[..., None, None, :]).flatten(-3)
        total = node.new_zeros(2 * num_frames * num_nodes, 4)
        total.index_add_(0, index.flatten(), (weight[..., None] * value[..., None, :]).flatten(0, 2))
        sums = total.reshape(2 * num_frames, *self.shape, 4).movedim(-1, 1).contiguous()
        return self._fill(sums, level=0).reshape(num_frames, 6, *self.shape)

    def read(self, field: Float[Tensor, "6 z y x"], points: Float[Tensor, "points 3"]) -> Float[Tensor, "2 points 3"]:
        """Displacements of both layers at points in the skull's frame; zero outside the grid."""
        return read_volume(field, self._normalize(points), "zeros").reshape(2, 3, -1).mT

    def _fill(self, sums: Tensor, level: int) -> Tensor:
        """Turn the sums of a level (weighted values, weight) into values at all nodes."""
        weighted, weight = sums[:, :3], sums[:, 3:]
        still = self.config.stillness * 4.0**level if level else 0.0
        z, y, x = sums.shape[2:]
        if min(z, y, x) < 6:
            return weighted / (weight + still + 1e-6)
        coarse = self._fill(F.avg_pool3d(sums, 2) * 4, level + 1)
        guess = refine(coarse, (z, y, x))
        # Nodes with samples keep their own value. Empty nodes take the coarser level's.
        return (weighted + _GUESS_WEIGHT * guess) / (weight + _GUESS_WEIGHT + _GUESS_WEIGHT * still)

    def _stretch(self, points: Tensor) -> Tensor:
        return asinh((points - self._center) / self.config.spacing)

    def _normalize(self, points: Tensor) -> Tensor:
        return 2 * (self._stretch(points) - self._low) / (self._high - self._low) - 1


class SurfaceSamples(NamedTuple):
    """Points on a surface."""

    triangle: Int[Tensor, "samples 3"]
    """Vertex indices of each point's triangle."""
    barycentric: Float[Tensor, "samples 3"]
    """Barycentric coordinates in the triangle."""
    area: Float[Tensor, "samples"]
    """Area that the point represents, square metres."""


def sample_surface(verts: Float[Tensor, "verts 3"], faces: Int[Tensor, "faces 3"], spacing: float) -> SurfaceSamples:
    """Sample a surface evenly.

    Args:
        verts: metres.
        faces: vertex indices.
        spacing: approximate distance between samples, metres; every triangle gets at least one sample.
    """
    a, b, c = verts[faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1) / 2
    per_face = (area / spacing**2).round().long().clamp(1, 64)
    owner = torch.repeat_interleave(torch.arange(len(faces), device=verts.device), per_face)
    first = per_face.cumsum(0) - per_face
    order = torch.arange(len(owner), device=verts.device) - first[owner]
    # A low-discrepancy sequence in the unit square, folded over the diagonal into the triangle.
    u = (0.5 + order * 0.7548776662) % 1
    v = (0.5 + order * 0.5698402910) % 1
    alone = per_face[owner] == 1
    u, v = torch.where(u + v > 1, 1 - u, u), torch.where(u + v > 1, 1 - v, v)
    third = torch.full_like(u, 1 / 3)
    u, v = torch.where(alone, third, u), torch.where(alone, third, v)
    return SurfaceSamples(faces[owner], torch.stack([1 - u - v, u, v], -1), (area / per_face)[owner])
