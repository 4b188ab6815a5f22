"""The lattice that an image's rays share."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from partnerface_ns.rendering.lattice import ViewLattice


@pytest.fixture
def lattice() -> ViewLattice:
    points = torch.tensor([0.3, -0.2, 0.5]) + 0.1 * torch.randn(200, 3)
    origin = torch.tensor([0.1, 0.2, -0.4])
    return ViewLattice.around(points, 0.02, 0.015, origin, F.normalize(points - origin, dim=1))


def test_the_nodes_surround_the_points():
    points, origin = 0.1 * torch.randn(300, 3), torch.tensor([0.0, 0.1, 0.8])
    spacing = 0.01
    lattice = ViewLattice.around(points, 0.02, spacing, origin, F.normalize(points - origin, dim=1))
    rows, columns, depths = lattice.shape
    nodes = lattice.points(torch.arange(rows * columns * depths))
    nearest = torch.cdist(points, nodes).amin(1)
    assert nearest.max() < 1.2 * spacing, "within half a cell's diagonal, wider where the cone has opened"
    near, far = (points - origin).norm(dim=1).aminmax()
    assert lattice.edges[0] <= near - 0.019 and lattice.edges[-1] >= far + 0.019
    assert_close(lattice.edges.diff(), torch.full((depths,), spacing))


def test_it_ends_where_no_ray_runs(lattice):
    narrow = ViewLattice.around(
        lattice.points(torch.arange(4000)), 0.02, 0.015, lattice.origin, lattice.axes[2:] + torch.zeros(3, 3)
    )
    assert max(narrow.shape[:2]) <= 4 < min(lattice.shape[:2])


def test_a_ray_through_a_node_runs_through_its_column(lattice):
    node = torch.randint(lattice.shape[0] * lattice.shape[1] * lattice.shape[2], (50,))
    column, position = lattice.columns(F.normalize(lattice.points(node) - lattice.origin, dim=1))
    assert_close(column, node // lattice.shape[2])
    assert_close(position, position.round(), atol=1e-3, rtol=0)


def test_rays_beside_and_behind_run_through_none(lattice):
    ahead, side = lattice.axes[2], lattice.axes[0]
    column, _ = lattice.columns(F.normalize(torch.stack([ahead, -ahead, ahead + 2 * side, ahead - 2 * side]), dim=1))
    assert column[0] >= 0 and (column[1:] == -1).all()


def test_reading_is_linear_between_nodes(lattice):
    rows, columns, depths = lattice.shape
    axes = [torch.arange(float(n)) for n in lattice.shape]
    volume = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    position = torch.rand(20, 2) * torch.tensor([columns - 1.0, rows - 1.0])
    depth = torch.rand(20, 5) * (depths - 1)
    distance = lattice.lower[2] + (depth + 0.5) * lattice.size[2]
    expected = torch.stack([position[:, 1:].expand(-1, 5), position[:, :1].expand(-1, 5), depth], -1)
    assert_close(lattice.read(volume, position, distance), expected, atol=1e-3, rtol=0)


def test_finer_nodes_lie_around_the_coarse_ones(lattice):
    fine = lattice.subdivide()
    assert fine.shape == tuple(2 * n for n in lattice.shape)
    _, columns, depths = fine.shape
    corner = [(y * columns + x) * depths + z for y in (0, 1) for x in (0, 1) for z in (0, 1)]
    assert_close(fine.points(torch.tensor(corner)).mean(0), lattice.points(torch.tensor([0]))[0], atol=2e-4, rtol=0)


def test_more_cells_than_needed_change_no_node(lattice):
    rows, columns, depths = lattice.shape
    points = lattice.points(torch.arange(rows * columns * depths))
    directions = F.normalize(points - lattice.origin, dim=1)
    needed = ViewLattice.around(points, 0.0, 0.015, lattice.origin, directions)
    larger = tuple(n + 3 for n in needed.shape)
    given = ViewLattice.around(points, 0.0, 0.015, lattice.origin, directions, larger)
    assert given.shape == larger and torch.equal(given.lower, needed.lower) and torch.equal(given.size, needed.size)
