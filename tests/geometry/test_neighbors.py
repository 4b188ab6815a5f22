"""Nearest vertices, by a tree and by brute force."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.geometry import neighbors
from partnerface_ns.geometry.neighbors import VertexIndex


@pytest.fixture
def verts() -> torch.Tensor:
    return torch.rand(200, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def points() -> torch.Tensor:
    return torch.rand(50, 3, generator=torch.Generator().manual_seed(1))


def test_neighbors_are_the_nearest_in_order(verts, points):
    result = VertexIndex(verts).query(points, 4)
    for point, distance, index in zip(points, result.distance, result.index, strict=True):
        nearest = sorted(range(len(verts)), key=lambda v: float((verts[v] - point).norm()))[:4]
        assert index.tolist() == nearest
        assert_close(distance, (verts[nearest] - point).norm(dim=1))


def test_brute_force_in_chunks_equals_the_tree(verts, points, monkeypatch):
    monkeypatch.setattr(neighbors, "_PAIRS_AT_ONCE", 7 * len(verts))
    index = VertexIndex(verts)
    expected, result = index.query(points, 3), index._brute_force(points, 3)
    assert torch.equal(result.index, expected.index)
    assert_close(result.distance, expected.distance)


def test_neighbors_carry_no_gradient_and_points_may_have_one(verts, points):
    result = VertexIndex(verts.requires_grad_()).query(points.requires_grad_(), 2)
    assert not result.distance.requires_grad


def test_a_point_on_a_vertex_is_at_distance_zero(verts):
    result = VertexIndex(verts).query(verts, 2)
    assert_close(result.distance[:, 0], torch.zeros(len(verts)))
    assert torch.equal(result.index[:, 0], torch.arange(len(verts)))
