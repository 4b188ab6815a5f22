"""Rays and projections of pinhole cameras."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.geometry.camera import Camera, Intrinsics, project_points, rays_through_pixels
from partnerface_ns.geometry.rigid import rigid, rotation_from_axis_angle

INTRINSICS = Intrinsics(fl_x=120.0, fl_y=90.0, cx=33.0, cy=20.5)
PIXELS = torch.tensor([[0.5, 0.5], [33.0, 20.5], [63.5, 0.5], [10.0, 47.5]], dtype=torch.float64)


@pytest.fixture
def T_world_camera() -> torch.Tensor:
    vector = torch.tensor([0.3, -0.8, 0.2], dtype=torch.float64)
    return rigid(rotation_from_axis_angle(vector), torch.tensor([0.1, 0.2, 1.5], dtype=torch.float64))


def test_a_camera_at_rest_looks_down_minus_z_with_y_up():
    T = torch.eye(4)
    pixels = torch.tensor([[33.0, 20.5], [43.0, 20.5], [33.0, 10.5]])
    origins, directions = rays_through_pixels(pixels, INTRINSICS, T)
    assert_close(origins, torch.zeros(3, 3))
    assert_close(directions[0], torch.tensor([0.0, 0.0, -1.0]))
    assert directions[1, 0] > 0 and directions[1, 1] == 0, "pixels to the right see to the right"
    assert directions[2, 1] > 0 and directions[2, 0] == 0, "pixels above see above"


def test_rays_equal_a_loop_over_pixels(T_world_camera):
    origins, directions = rays_through_pixels(PIXELS, INTRINSICS, T_world_camera)
    for (x, y), origin, direction in zip(PIXELS.tolist(), origins, directions, strict=True):
        towards = torch.tensor([(x - 33.0) / 120.0, -(y - 20.5) / 90.0, -1.0], dtype=torch.float64)
        assert_close(direction, T_world_camera[:3, :3] @ (towards / towards.norm()))
        assert_close(origin, T_world_camera[:3, 3])


def test_points_on_a_pixels_ray_project_to_the_pixel(T_world_camera):
    origins, directions = rays_through_pixels(PIXELS, INTRINSICS, T_world_camera)
    for distance in (0.2, 1.0, 30.0):
        assert_close(project_points(origins + distance * directions, INTRINSICS, T_world_camera), PIXELS)


def test_projection_takes_any_batch_axes_and_has_right_gradients(batch, T_world_camera):
    in_camera = 0.3 * torch.randn(*batch, 3, dtype=torch.float64) - torch.tensor([0.0, 0.0, 2.0])
    points = in_camera @ T_world_camera[:3, :3].T + T_world_camera[:3, 3]
    projected = project_points(points, INTRINSICS, T_world_camera)
    assert projected.shape == (*batch, 2)
    assert_close(projected[..., 0], 33.0 - 120.0 * in_camera[..., 0] / in_camera[..., 2])
    assert torch.autograd.gradcheck(lambda p: project_points(p, INTRINSICS, T_world_camera), points.requires_grad_())


def test_a_resized_camera_sees_the_same_point_at_the_same_share_of_the_image():
    camera = Camera(np.eye(4), *INTRINSICS, 64, 40)
    small = camera.resize(16, 20)
    assert (small.width, small.height) == (16, 20)
    point, T = torch.tensor([0.1, -0.2, -2.0]), torch.eye(4)
    share = project_points(point, camera.intrinsics, T) / torch.tensor([64.0, 40.0])
    assert_close(project_points(point, small.intrinsics, T) / torch.tensor([16.0, 20.0]), share)
