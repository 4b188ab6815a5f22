"""Signed distance on balls, where it is known exactly; clearance and torso share on the tiny head."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.common.errors import InputError
from partnerface_ns.geometry.neighbors import VertexIndex
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.warp.canonical_space import CanonicalSpace, CanonicalSpaceConfig, signed_distance

RADIUS = 0.1


@pytest.fixture(scope="module")
def ball() -> tuple[torch.Tensor, torch.Tensor]:
    """A fine ball around the origin: vertices and outward faces."""
    rows, columns = 24, 40
    polar = torch.linspace(0.05, math.pi - 0.05, rows)[:, None]
    turn = (torch.arange(columns) * 2 * math.pi / columns)[None]
    ones = torch.ones_like(turn)
    verts = RADIUS * torch.stack([polar.sin() * turn.sin(), polar.cos() * ones, polar.sin() * turn.cos()], -1)
    r, c = torch.meshgrid(torch.arange(rows - 1), torch.arange(columns), indexing="ij")
    index = lambda i, j: (i * columns + j % columns).flatten()  # noqa: E731
    a, b, d, e = index(r, c), index(r, c + 1), index(r + 1, c), index(r + 1, c + 1)
    return verts.reshape(-1, 3), torch.cat([torch.stack([a, d, e], 1), torch.stack([a, e, b], 1)])


@pytest.fixture
def space(tiny_shaped) -> CanonicalSpace:
    return CanonicalSpace(CanonicalSpaceConfig(resolution=32), tiny_shaped.verts_rest, tiny_shaped.model)


def height_above(ball: tuple[torch.Tensor, torch.Tensor], points: torch.Tensor) -> torch.Tensor:
    verts, faces = ball
    distance, index = VertexIndex(verts).query(points, 4)
    weights = torch.full_like(distance, 0.25)
    return signed_distance(points, verts, faces, distance, index, weights)


def test_normals_of_a_ball_point_outward(ball):
    verts, faces = ball
    normals = vertex_normals(verts, faces)
    assert_close(normals.norm(dim=1), torch.ones(len(verts)))
    away_from_holes = verts[:, 1].abs() < 0.9 * RADIUS
    assert_close(normals[away_from_holes], verts[away_from_holes] / RADIUS, atol=0.03, rtol=0)


def test_a_vertex_without_faces_has_no_normal_but_a_number(ball):
    verts, faces = ball
    normals = vertex_normals(torch.cat([verts, torch.ones(1, 3)]), faces)
    assert not normals[-1].any()


def test_signed_distance_to_a_ball(ball):
    direction = torch.nn.functional.normalize(torch.randn(300, 3), dim=1)
    direction = direction[direction[:, 1].abs() < 0.95]  # it has holes at its poles
    for exact in (-0.02, -0.005, -0.001, 0.001, 0.005, 0.02):
        height = height_above(ball, direction * (RADIUS + exact))
        assert (height.sign() == math.copysign(1, exact)).float().mean() > 0.98
        assert_close(height, torch.full_like(height, exact), atol=0.003, rtol=0)


def test_beyond_a_border_the_vertex_distance_replaces_the_planes(ball):
    """Beside a flat sheet its tangent plane says zero."""
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    verts = 0.01 * torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3)
    corner = torch.tensor([r * 5 + c for r in range(4) for c in range(4)])
    faces = torch.cat([corner[:, None] + torch.tensor([0, 1, 6]), corner[:, None] + torch.tensor([0, 6, 5])])
    beside = torch.tensor([[0.14, 0.02, 0.0], [0.14, 0.02, 0.001]])
    assert (height_above((verts, faces), beside) > 0.08).all()
    assert_close(height_above((verts, faces), torch.tensor([[0.021, 0.022, 0.003]]))[0], torch.tensor(0.003))


def test_distance_changes_sign_at_the_skin_and_clearance_ends_at_the_reach(space, tiny_head):
    """On the tiny head's ball of 10 cm, seen from its back, where there is hair."""
    up = torch.tensor([0.0, 0.0, -1.0])
    heights = torch.tensor([-0.02, -0.01, 0.01, 0.02, 0.04])
    height, room = space.distance_and_clearance(up * (RADIUS + heights)[:, None])
    assert (height.sign() == heights.sign()).all()
    assert (height.diff() > 0).all()
    assert_close(height, heights, atol=0.013, rtol=0)
    assert tiny_head.regions["face"][tiny_head.template[:, 2].argmin()] == 0
    assert_close(room, CanonicalSpaceConfig().reach()[1] - height, atol=1e-4, rtol=0)


def test_a_reach_that_is_set_wins_over_the_measured_one():
    measured = torch.tensor([0.03, torch.nan, 0.05])
    assert_close(CanonicalSpaceConfig().reach(), torch.tensor([0.04, 0.07, 0.04]))
    assert_close(CanonicalSpaceConfig().reach(measured), torch.tensor([0.03, 0.07, 0.05]))
    assert_close(CanonicalSpaceConfig(reach_torso=0.1).reach(measured), torch.tensor([0.03, 0.07, 0.1]))


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.01, 0.0])
def test_a_reach_that_is_no_distance_is_refused_by_name(value):
    with pytest.raises(InputError, match="reach_hair"):
        CanonicalSpaceConfig(reach_hair=value)


def test_the_torso_share_is_that_of_the_nearest_skin(space, tiny_head, tiny_shaped):
    share = space.torso_share(tiny_shaped.verts_rest)
    assert ((share >= 0) & (share <= 1 + 1e-6)).all()
    torso, face = tiny_head.regions["torso"] > 0.5, tiny_head.template[:, 1] > 0.03
    assert share[torso & (tiny_head.template[:, 1] < -0.15)].min() > 0.99
    assert share[face].max() < 1e-6


def test_layer_distance_is_small_on_its_own_surface_only(space, tiny_head, tiny_shaped):
    own_joint = tiny_head.skinning_weights[:, 2:].sum(1) > 0.5
    skull = (tiny_head.skinning_weights[:, 1] > 0.9) & (tiny_head.template[:, 1] > 0.04)
    chin = (tiny_head.skinning_weights[:, 2] > 0.9) & (tiny_head.template[:, 1] < -0.04)
    assert skull.sum() > 3 and chin.sum() > 3
    verts = tiny_shaped.verts_rest
    assert space.layer_distance(0, verts[skull]).abs().max() < 0.012
    assert space.layer_distance(1, verts[chin & own_joint]).abs().max() < 0.012
    back = skull & (tiny_head.template[:, 2] < -0.05)
    assert space.layer_distance(1, verts[back]).abs().min() > 0.03


def test_outside_the_box_values_are_those_of_the_border(space):
    outside = space.upper + torch.tensor([[1.0, 1.0, 1.0]])
    assert_close(space.distance_and_clearance(outside), space.distance_and_clearance(space.upper[None]))
