"""Nodes around the head."""

from __future__ import annotations

import pytest
import torch

from partnerface_ns.warp.node_grid import NodeGrid

SPACING = 0.02


@pytest.fixture
def nodes(tiny_skinning):
    return NodeGrid(tiny_skinning.space, SPACING)


def test_nodes_are_where_density_may_be_on_the_head(nodes, tiny_skinning):
    space = tiny_skinning.space
    distance, clearance = space.distance_and_clearance(nodes.points)
    assert (clearance > -2 * SPACING).all() and (space.torso_share(nodes.points) < 1).all()
    points = space.lower + torch.rand(2000, 3) * (space.upper - space.lower)
    distance, clearance = space.distance_and_clearance(points)
    needed = points[(clearance > 0) & (distance > -0.03) & (space.torso_share(points) < 0.5)]
    nearest = torch.cdist(needed, nodes.points).min(1).values
    assert len(needed) > 50 and (nearest < SPACING).all()


def test_a_linear_function_of_the_point_is_read_exactly_in_each_frame(nodes, tiny_skinning):
    slopes = torch.randn(3, 3, 5)
    values = torch.einsum("nx,fxc->fnc", nodes.points, slopes)
    _, clearance = tiny_skinning.space.distance_and_clearance(nodes.points)
    inside = nodes.points[(clearance > 0.5 * SPACING) & (tiny_skinning.space.torso_share(nodes.points) < 0.2)]
    points = inside.repeat_interleave(2, 0)[:400]
    points = points + 0.25 * SPACING * torch.rand_like(points)
    around = torch.cdist(points, nodes.points) < SPACING * 3**0.5
    points = points[around.sum(1) >= 8]
    frame = torch.randint(3, (len(points),))
    expected = torch.einsum("nx,nxc->nc", points, slopes[frame])
    assert len(points) > 20
    close = (nodes.read(values, points, frame) - expected).abs().amax(1) < 1e-4
    # A few points have a node without a value beside them.
    assert close.float().mean() > 0.9


def test_gradients_reach_values_and_points(nodes):
    values = torch.randn(2, len(nodes.points), 3, requires_grad=True)
    points = (nodes.points[::7] + 0.003).requires_grad_()
    nodes.read(values, points, torch.arange(len(points)) % 2).square().sum().backward()
    for tensor in (values, points):
        assert tensor.grad is not None and tensor.grad.isfinite().all() and tensor.grad.any()
