"""Rotations, inverses and transforms against slow references."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.geometry.rigid import invert_rigid, rigid, rigid_about, rotation_from_axis_angle, transform_points

ANGLES = [0.0, 1e-12, 1e-6, 0.99e-4, 1.01e-4, 1e-3, 0.5, math.pi - 1e-4, math.pi, 3 * math.pi]
"""Radians; the Taylor series is used below 1e-4."""


def random_axis_angle(*batch: int) -> torch.Tensor:
    return torch.randn(*batch, 3, dtype=torch.float64)


def random_transform(*batch: int) -> torch.Tensor:
    return rigid(rotation_from_axis_angle(random_axis_angle(*batch)), random_axis_angle(*batch))


def cross_matrix(vector: torch.Tensor) -> torch.Tensor:
    x, y, z = vector.tolist()
    return torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=vector.dtype)


def test_rotation_is_the_exponential_of_the_cross_matrix(batch):
    vectors = random_axis_angle(*batch)
    rotations = rotation_from_axis_angle(vectors)
    assert rotations.shape == (*batch, 3, 3)
    for vector, rotation in zip(vectors.reshape(-1, 3), rotations.reshape(-1, 3, 3), strict=True):
        assert_close(rotation, torch.matrix_exp(cross_matrix(vector)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("angle", ANGLES)
def test_rotation_is_right_at_special_angles(angle, dtype):
    axis = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64) / 3
    rotation = rotation_from_axis_angle((axis * angle).to(dtype))
    exact, precision = torch.matrix_exp(cross_matrix(axis * angle)), 20 * torch.finfo(dtype).eps
    assert_close(rotation, exact.to(dtype), atol=precision, rtol=precision)
    assert_close(rotation @ rotation.mT, torch.eye(3, dtype=dtype))
    assert_close(rotation.det(), torch.ones((), dtype=dtype))


@pytest.mark.parametrize("angle", [0.0, 1e-5, 1.01e-4, 0.5, 3.0])
def test_rotation_has_right_gradients_at_and_near_rest(angle):
    vector = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64) / 3 * angle
    assert torch.autograd.gradcheck(rotation_from_axis_angle, vector.clone().requires_grad_())
    exact = torch.autograd.functional.jacobian(rotation_from_axis_angle, vector)
    single = torch.autograd.functional.jacobian(rotation_from_axis_angle, vector.float())
    assert_close(single.double(), exact, atol=1e-3, rtol=0)


def test_inverse_of_a_rigid_transform_undoes_it(batch):
    T = random_transform(*batch)
    assert_close(invert_rigid(T) @ T, torch.eye(4, dtype=torch.float64).expand(*batch, 4, 4))
    assert torch.autograd.gradcheck(
        lambda v: invert_rigid(rigid(rotation_from_axis_angle(v), v)), T[..., :3, 3].requires_grad_()
    )


def test_a_rotation_about_a_point_leaves_it_in_place(batch):
    center, turn, shift = random_axis_angle(), random_axis_angle(*batch), random_axis_angle(*batch)
    T = rigid_about(center, turn, torch.zeros_like(shift))
    centers = center.expand(*batch, 3)
    assert_close(transform_points(T, centers), centers)
    moved = transform_points(rigid_about(center, turn, shift), centers + 1)
    assert_close(moved, transform_points(T, centers + 1) + shift)


def test_transforms_act_on_column_vectors(batch):
    T, points = random_transform(*batch), random_axis_angle(*batch) * 3
    moved = transform_points(T, points)
    assert moved.shape == points.shape
    for one_T, point, at in zip(T.reshape(-1, 4, 4), points.reshape(-1, 3), moved.reshape(-1, 3), strict=True):
        homogeneous = one_T @ torch.cat([point, torch.ones(1, dtype=torch.float64)])
        assert_close(at, homogeneous[:3])
        assert homogeneous[3] == 1
