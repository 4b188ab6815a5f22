"""View lattice: a grid in the coordinates of one camera, from which all rays of an image are interpolated.

A column of cells is a bundle of directions. Columns are even in the tangent plane at distance 1, and cells are even in
the distance from the camera. Nodes are the centres of cells. Volumes have axes (row, column, depth). Distances are
metres.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.geometry.volumes import read_volume

_MAX_TANGENT = 3.0
"""Largest tangent of the angle between a direction and the lattice's axis: 72 degrees."""


@dataclass(frozen=True)
class ViewLattice:
    """Position, orientation and size of a view lattice."""

    origin: Float[Tensor, "3"]
    """Camera centre, world frame, metres."""
    axes: Float[Tensor, "3 3"]
    """The lattice's x, y and z axes in the world frame, as rows. z points to the centre of the mesh."""
    lower: Float[Tensor, "3"]
    """Lowest x and y in the tangent plane, and the smallest distance."""
    size: Float[Tensor, "3"]
    """Size of a cell: x and y in the tangent plane, and distance."""
    shape: tuple[int, int, int]
    """Rows, columns and depths."""
    needed_shape: Int[Tensor, "3"]
    """Rows, columns and depths that cover the points and rays."""

    @staticmethod
    def around(
        points: Float[Tensor, "points 3"],
        padding: float,
        spacing: float,
        origin: Float[Tensor, "3"],
        directions: Float[Tensor, "rays 3"],
        shape: tuple[int, int, int] | None = None,
    ) -> ViewLattice:
        """Build the lattice around points, limited to the part that rays pass.

        Args:
            points: vertices of a mesh, world frame, metres.
            padding: margin around the points, metres.
            spacing: distance between nodes at the mean distance of the points, metres.
            origin: origin of all rays, world frame, metres.
            directions: directions of the rays, unit length.
            shape: rows, columns and depths; cells beyond them are cut off. None takes `needed_shape`.
        """
        away = points - origin
        axes = _axes_towards(away.mean(0))
        distance = away.norm(dim=1)
        mean = distance.mean()
        points_in_plane, rays_in_plane = _in_tangent_plane(away, axes), _in_tangent_plane(directions, axes)
        near = (distance.min() - padding).clamp(min=spacing)
        size = torch.stack([spacing / mean, spacing / mean, torch.full_like(mean, spacing)])
        # Rays are interpolated between nodes, which are the centres of cells. Hence one more cell at each side.
        low = torch.maximum(points_in_plane.amin(0) - padding / mean, rays_in_plane.amin(0) - size[:2])
        high = torch.minimum(points_in_plane.amax(0) + padding / mean, rays_in_plane.amax(0) + size[:2])
        lower = torch.cat([low, near[None]])
        upper = torch.cat([high, (distance.max() + padding)[None]])
        columns, rows, depths = ((upper - lower) / size).ceil().long().clamp(min=2)
        if shape is None:
            shape = (int(rows), int(columns), int(depths))
        return ViewLattice(origin, axes, lower, size, shape, torch.stack([rows, columns, depths]))

    def subdivide(self) -> ViewLattice:
        """The lattice of half the cell size; eight cells replace each cell."""
        rows, columns, depths = self.shape
        return replace(self, size=self.size / 2, shape=(2 * rows, 2 * columns, 2 * depths))

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        rows, columns, depths = self.shape
        return rows * columns * depths

    @property
    def edges(self) -> Float[Tensor, "edges"]:
        """Distances of the boundaries between a column's cells."""
        return self.lower[2] + self.size[2] * torch.arange(self.shape[2] + 1, device=self.lower.device)

    def points(self, node: Int[Tensor, "nodes"]) -> Float[Tensor, "nodes 3"]:
        """World positions of nodes, given by their index in a flattened volume."""
        _, columns, depths = self.shape
        index = torch.stack([node // depths % columns, node // (depths * columns), node % depths], -1)
        x, y, distance = (self.lower + (index + 0.5) * self.size).unbind(-1)
        direction = F.normalize(torch.stack([x, y, torch.ones_like(x)], -1), dim=-1) @ self.axes
        return self.origin + distance[:, None] * direction

    def columns(self, directions: Float[Tensor, "rays 3"]) -> tuple[Int[Tensor, "rays"], Float[Tensor, "rays 2"]]:
        """Column of each ray, -1 outside the lattice, and its fractional position between the nodes of the columns."""
        cell = (_in_tangent_plane(directions, self.axes) - self.lower[:2]) / self.size[:2]
        x, y = cell.floor().long().unbind(1)
        rows, columns, _ = self.shape
        inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows) & (directions @ self.axes[2] > 0)
        return torch.where(inside, y * columns + x, -1), cell - 0.5

    def read(
        self,
        volume: Float[Tensor, "channels rows columns depths"],
        position: Float[Tensor, "rays 2"],
        distance: Float[Tensor, "rays samples"],
    ) -> Float[Tensor, "rays samples channels"]:
        """Interpolate trilinearly at distances along rays. Beyond the lattice, values are those of its border.

        Args:
            volume: values at the nodes.
            position: of the rays, from `columns`.
            distance: metres along the rays.
        """
        rows, columns, depths = self.shape
        normalized = position.new_empty(*distance.shape, 3)
        normalized[..., 0] = ((distance - self.lower[2]) / self.size[2] - 0.5) * (2 / (depths - 1)) - 1
        normalized[..., 1] = (position[:, 0] * (2 / (columns - 1)) - 1)[:, None]
        normalized[..., 2] = (position[:, 1] * (2 / (rows - 1)) - 1)[:, None]
        values = read_volume(volume, normalized.view(-1, 3), "border")
        return values.view(len(volume), *distance.shape).movedim(0, -1)


def _in_tangent_plane(directions: Tensor, axes: Tensor) -> Float[Tensor, "rays 2"]:
    local = directions @ axes.T
    return (local[:, :2] / local[:, 2:].clamp(min=1e-3)).clamp(-_MAX_TANGENT, _MAX_TANGENT)


def _axes_towards(forward: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """Orthonormal rows x, y, z with z along `forward`."""
    z = F.normalize(forward, dim=0)
    other = F.one_hot(z.abs().argmin(), 3).to(z.dtype)
    x = F.normalize(torch.linalg.cross(other, z), dim=0)
    return torch.stack([x, torch.linalg.cross(z, x), z])
