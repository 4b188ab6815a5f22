"""Cameras around a head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from partnerface_ns.geometry.camera import Camera, project_points
from partnerface_ns.rendering.orbit import ORBIT, orbit_cameras

HEAD = np.array(
    [[0.07, 0.0, 0.0], [-0.07, 0.0, 0.0], [0.0, 0.12, 0.0], [0.0, -0.12, 0.0], [0.0, 0.0, 0.1], [0, 0, -0.1]]
)


@pytest.mark.parametrize("name", list(ORBIT))
def test_every_view_shows_its_side_of_the_head_upright_in_the_middle(name):
    R = Rotation.from_rotvec([0.1, 0.4, -0.2]).as_matrix()
    head = HEAD @ R.T + [0.3, -0.1, 0.2]
    T = np.eye(4)
    T[:3, 3] = [0.3, -0.1, 1.2]
    camera = orbit_cameras(Camera(T, 500.0, 500.0, 100.0, 80.0, 200, 100), head, R, 64)[name]
    assert (camera.width, camera.height) == (64, 32)
    towards = R.T @ (camera.T_world_camera[:3, 3] - [0.3, -0.1, 0.2])
    azimuth, elevation = map(np.radians, ORBIT[name])
    expected = [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
    assert_allclose(towards, expected, atol=1e-9)
    assert_allclose(np.linalg.det(camera.T_world_camera[:3, :3]), 1)
    points = project_points(torch.from_numpy(head), camera.intrinsics, torch.from_numpy(camera.T_world_camera)).numpy()
    assert_allclose(points.mean(0), [32, 16], atol=1.5)
    assert ((points > 0) & (points < [64, 32])).all()
    assert points[2, 1] < points[3, 1] - 3, "the crown is above the chin"
    if name == "90 left":
        assert points[4, 0] < points[5, 0], "seen from the person's left, the face looks to the left of the image"
