"""Derivatives of posed points, against differences of the pose itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.tracking.fit.photometric.corrections import EYES, JAW, NUM_POSE, PLACE, SKULL, Corrections
from partnerface_ns.tracking.fit.photometric.posed_points import PosedPoints, pixel_derivatives
from partnerface_ns.tracking.fit.photometric.surface_points import SurfacePoints

FOCAL = 500.0


@pytest.fixture(scope="module")
def points(points: SurfacePoints) -> SurfacePoints:
    """Points of a head without pose correctives, whose change the derivatives neglect."""
    return replace(points, model=replace(points.model, pose_dirs=torch.zeros_like(points.model.pose_dirs)))


@pytest.fixture(scope="module")
def corrections(model, points) -> Corrections:
    """Two frames of a turned head with an open mouth."""
    track = HeadState(
        expression=0.2 * torch.rand(2, model.num_expr),
        rotation=torch.tensor([[0.05, 0.1, 0.0], [0.0, -0.1, 0.05]]),
        neck=torch.tensor([[0.1, 0.4, 0.1], [-0.1, -0.3, 0.0]]),
        jaw=torch.tensor([[0.15, 0.0, 0.0], [0.05, 0.02, 0.0]]),
        eyes=torch.tensor([[0.1, 0.2, 0.0] * 2, [0.0, -0.1, 0.0] * 2]),
        translation=torch.tensor([[0.0, 0.0, -1.0], [0.02, 0.01, -1.1]]),
    )
    rest = ShapedHead.of(points.model, torch.zeros(points.model.num_identity)).verts_rest
    return Corrections.zero(track, rest[: points.num_landmarks].mean(0) - rest[-4])


def posed(points, corrections: Corrections, coefficients: torch.Tensor) -> PosedPoints:
    return PosedPoints.of(ShapedHead.of(points.model, coefficients), corrections.states(), corrections.face)


def predicted_and_true(points, corrections, change, shape_change):
    """Movements of landmarks and texture points along a direction: by the derivatives, and by posing twice."""
    zero = torch.zeros(points.model.num_identity)
    before = posed(points, corrections, zero)
    after = posed(points, corrections.add(change), shape_change)
    part = slice(0, points.texture.stop)
    along = torch.tensor([0.48, 0.6, 0.64])
    a = along.expand(2, part.stop, 3)
    derivatives = before.derivatives(part, a, True)
    step = torch.cat([change, shape_change.expand(2, -1)], -1)
    moved = ((after.verts - before.verts)[:, part] * along).sum(-1)
    return torch.einsum("frn,fn->fr", derivatives, step), moved


@pytest.mark.parametrize(("part", "size"), [(SKULL, 0.004), (PLACE, 0.004), (JAW, 0.004), (EYES, 0.002)], ids=str)
def test_derivatives_by_pose(points, corrections, part, size):
    change = torch.zeros_like(corrections.values)
    change[:, part] = size * torch.tensor([1.0, -0.7, 0.5])[: part.stop - part.start]
    predicted, true = predicted_and_true(points, corrections, change, torch.zeros(points.model.num_identity))
    assert true.abs().max() > 1e-5
    torch.testing.assert_close(predicted, true, atol=0.06 * float(true.abs().max()), rtol=0)


def test_derivatives_by_expression_and_shape(points, corrections):
    change = torch.zeros_like(corrections.values)
    change[:, NUM_POSE:] = 0.02 * torch.randn(2, change.shape[1] - NUM_POSE)
    shape = torch.zeros(points.model.num_identity)
    predicted, true = predicted_and_true(points, corrections, change, shape)
    torch.testing.assert_close(predicted, true, atol=0.05 * float(true.abs().max()), rtol=0)
    shape[-40:] = 0.001 * torch.randn(40)
    predicted, true = predicted_and_true(points, corrections, torch.zeros_like(change), shape)
    assert true.abs().max() > 5e-4
    torch.testing.assert_close(predicted, true, atol=0.05 * float(true.abs().max()), rtol=0)


def test_rows_of_single_points_equal_rows_of_a_slice(points, corrections):
    head = posed(points, corrections, torch.zeros(points.model.num_identity))
    a = torch.randn(2, 5, 3)
    index = torch.arange(1000, 1005).expand(2, -1)
    torch.testing.assert_close(head.derivatives(index, a, True), head.derivatives(slice(1000, 1005), a, True))


def test_a_rotation_of_the_skull_leaves_the_centre_of_the_face_in_place(points, corrections):
    change = torch.zeros_like(corrections.values)
    change[:, SKULL] = torch.tensor([0.2, -0.3, 0.1])
    zero = torch.zeros(points.model.num_identity)
    before, after = posed(points, corrections, zero), posed(points, corrections.add(change), zero)
    torch.testing.assert_close(after.face, before.face, atol=1e-5, rtol=0)
    assert (after.verts - before.verts)[:, points.texture].norm(dim=-1).max() > 0.02


def test_pixel_derivatives():
    at = torch.tensor([0.1, -0.05, -0.9], dtype=torch.float64, requires_grad=True)
    x, y, z = at.unbind()
    pixels = torch.stack([FOCAL * x / -z, -FOCAL * y / -z])
    expected = torch.stack([torch.autograd.grad(value, at, retain_graph=True)[0] for value in pixels])
    torch.testing.assert_close(pixel_derivatives(at, FOCAL).detach(), expected)
