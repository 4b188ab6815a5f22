"""Colours on a grid that is fixed to the face."""

from __future__ import annotations

import numpy as np

from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.tracking.fit.embedding import landmark_embedding
from partnerface_ns.tracking.video.face_texture import face_grid, grid_facing, light_basis, log_colours, read_texture


def open_head_landmarks(scale: float = 2000.0) -> np.ndarray:
    """The open head's landmarks in pixels, seen from the front."""
    model = load_open_head()
    at = landmark_embedding(model).points(model.template.numpy().astype(np.float64))
    return np.stack([200 + scale * at[:, 0], 200 - scale * at[:, 1], -scale * at[:, 2]], -1)


def test_grid_points_cover_both_sides_of_the_face_evenly():
    grid = face_grid()
    np.testing.assert_allclose(grid.weights.sum(1), 1)
    assert (grid.weights > -1e-9).all() and 400 < len(grid.points) < 700
    assert abs((grid.points[:, 0] > 0).mean() - 0.5) < 0.1


def test_colours_are_read_at_the_grid_points():
    landmarks = open_head_landmarks()
    y, x = np.mgrid[:400, :400]
    rgb = np.stack([x / 2, y / 2, np.full_like(x, 90)], -1).astype(np.uint8)
    expected = np.stack([200 + 2000 * face_grid().points[:, 0], 200 - 2000 * face_grid().points[:, 1]], -1) / 2
    read = read_texture(rgb, landmarks)
    np.testing.assert_allclose(read[:, :2], expected, atol=1.5)
    assert (read[:, 2] == 90).all()


def test_colours_move_with_the_face():
    rng = np.random.default_rng(0)
    rgb = np.kron(rng.integers(0, 255, (40, 40, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    moved = np.roll(rgb, (13, -21), axis=(0, 1))
    landmarks = open_head_landmarks(1000.0)
    away = landmarks + np.array([-21, 13, 0])
    np.testing.assert_array_equal(read_texture(rgb, landmarks), read_texture(moved, away))


def test_a_turned_face_faces_the_camera_with_one_half():
    front = open_head_landmarks()
    angle = np.radians(50)
    turned = front @ np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    left = face_grid().points[:, 0] > 0
    cosines = grid_facing(np.stack([front, turned]))
    assert abs(cosines[0, left].mean() - cosines[0, ~left].mean()) < 0.05
    assert abs(cosines[1, left].mean() - cosines[1, ~left].mean()) > 0.2


def test_a_change_of_light_adds_to_log_colours():
    bright = np.full((1, 5, 3), 200, dtype=np.uint8)
    difference = log_colours(bright) - log_colours((bright * 0.5).astype(np.uint8))
    assert abs(difference.mean() - np.log(2)) < 0.1
    assert np.linalg.matrix_rank(light_basis()) == 3 and np.abs(light_basis()).max() < 2
