"""A lattice of directions and distances around what one camera sees, whose values all rays of an image share.

Nodes are the middles of cells: columns of directions, even in the tangent plane at distance 1, cut at even distances
from the camera. Volumes over it have axes (row, column, depth). Distances are metres.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.geometry.volumes import read_volume

_WIDEST = 3.0
"""How far from its axis a lattice reaches at most, in the tangent plane: 72 degrees."""


@dataclass(frozen=True)
class ViewLattice:
    """Where the nodes are."""

    origin: Float[Tensor, "3"]
    """The camera's place, world frame."""
    axes: Float[Tensor, "3 3"]
    """Rows: the lattice's x, y and z axis in the world; z points to the middle of what is seen."""
    lower: Float[Tensor, "3"]
    """Lowest x and y in the tangent plane, and the nearest distance."""
    size: Float[Tensor, "3"]
    """Of a cell: two sides in the tangent plane, and a distance."""
    shape: tuple[int, int, int]
    """Rows, columns and depths."""
    needed: Int[Tensor, "3"]
    """As many of them as it takes to reach around what it was made for."""

    @staticmethod
    def around(
        points: Float[Tensor, "points 3"],
        padding: float,
        spacing: float,
        origin: Float[Tensor, "3"],
        directions: Float[Tensor, "rays 3"],
        shape: tuple[int, int, int] | None = None,
    ) -> ViewLattice:
        """The lattice around points as far as rays run through it.

        Args:
            points: of a surface, world frame, metres.
            padding: room around them, metres.
            spacing: of the nodes where the points are, metres.
            origin: of all rays.
            directions: of the rays, unit length.
            shape: rows, columns and depths that the lattice has; fewer than `needed` cut off what lies beyond. None
                takes as many.
        """
        away = points - origin
        axes = _axes_towards(away.mean(0))
        distance = away.norm(dim=1)
        mean = distance.mean()
        at, rays = _in_tangent_plane(away, axes), _in_tangent_plane(directions, axes)
        near = (distance.min() - padding).clamp(min=spacing)
        size = torch.stack([spacing / mean, spacing / mean, torch.full_like(mean, spacing)])
        # A cell more than the rays need: they read between nodes, which are the cells' middles.
        low = torch.maximum(at.amin(0) - padding / mean, rays.amin(0) - size[:2])
        high = torch.minimum(at.amax(0) + padding / mean, rays.amax(0) + size[:2])
        lower = torch.cat([low, near[None]])
        upper = torch.cat([high, (distance.max() + padding)[None]])
        columns, rows, depths = ((upper - lower) / size).ceil().long().clamp(min=2)
        needed = torch.stack([rows, columns, depths])
        if shape is None:
            shape = tuple(needed.tolist())
        return ViewLattice(origin, axes, lower, size, shape, needed)

    def subdivide(self) -> ViewLattice:
        """The lattice of half the cell size: eight nodes replace each."""
        rows, columns, depths = self.shape
        return replace(self, size=self.size / 2, shape=(2 * rows, 2 * columns, 2 * depths))

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        rows, columns, depths = self.shape
        return rows * columns * depths

    @property
    def edges(self) -> Float[Tensor, "edges"]:
        """Distances between which a column's cells lie."""
        return self.lower[2] + self.size[2] * torch.arange(self.shape[2] + 1, device=self.lower.device)

    def points(self, node: Int[Tensor, "nodes"]) -> Float[Tensor, "nodes 3"]:
        """World places of nodes, given by their index in a flattened volume."""
        _, columns, depths = self.shape
        index = torch.stack([node // depths % columns, node // (depths * columns), node % depths], -1)
        x, y, distance = (self.lower + (index + 0.5) * self.size).unbind(-1)
        direction = F.normalize(torch.stack([x, y, torch.ones_like(x)], -1), dim=-1) @ self.axes
        return self.origin + distance[:, None] * direction

    def columns(self, directions: Float[Tensor, "rays 3"]) -> tuple[Int[Tensor, "rays"], Float[Tensor, "rays 2"]]:
        """The column that each ray runs through, -1 where none, and its place among the columns' nodes."""
        place = (_in_tangent_plane(directions, self.axes) - self.lower[:2]) / self.size[:2]
        x, y = place.floor().long().unbind(1)
        rows, columns, _ = self.shape
        inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows) & (directions @ self.axes[2] > 0)
        return torch.where(inside, y * columns + x, -1), place - 0.5

    def read(
        self,
        volume: Float[Tensor, "channels rows columns depths"],
        place: Float[Tensor, "rays 2"],
        distance: Float[Tensor, "rays samples"],
    ) -> Float[Tensor, "rays samples channels"]:
        """Trilinear values at distances along rays; beyond the lattice those of its border.

        Args:
            place: of the rays, from `columns`.
        """
        rows, columns, depths = self.shape
        at = place.new_empty(*distance.shape, 3)
        at[..., 0] = ((distance - self.lower[2]) / self.size[2] - 0.5) * (2 / (depths - 1)) - 1
        at[..., 1] = (place[:, 0] * (2 / (columns - 1)) - 1)[:, None]
        at[..., 2] = (place[:, 1] * (2 / (rows - 1)) - 1)[:, None]
        found = read_volume(volume, at.view(-1, 3), "border")
        return found.view(len(volume), *distance.shape).movedim(0, -1)


def _in_tangent_plane(directions: Tensor, axes: Tensor) -> Float[Tensor, "rays 2"]:
    local = directions @ axes.T
    return (local[:, :2] / local[:, 2:].clamp(min=1e-3)).clamp(-_WIDEST, _WIDEST)


def _axes_towards(forward: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """Orthonormal rows x, y, z with z along `forward`."""
    z = F.normalize(forward, dim=0)
    other = F.one_hot(z.abs().argmin(), 3).to(z.dtype)
    x = F.normalize(torch.linalg.cross(other, z), dim=0)
    return torch.stack([x, torch.linalg.cross(z, x), z])
