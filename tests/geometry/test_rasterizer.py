"""The z-buffer against one ray per sample."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.geometry.camera import Intrinsics
from partnerface_ns.geometry.rasterizer import project, rasterize

WIDTH, HEIGHT = 23, 17
INTRINSICS = Intrinsics(20.0, 22.0, 11.0, 9.0)


def triangles(seed: int, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Random triangles in front of a camera at the origin that looks down -z."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform([-0.8, -0.6, -3.0], [0.8, 0.6, -1.2], (num, 1, 3))
    verts = (middle + rng.uniform(-0.4, 0.4, (num, 3, 3))).reshape(-1, 3)
    return verts, np.arange(3 * num).reshape(num, 3)


def first_hits(verts: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest front-facing triangle (or -1) and the visible point of each sample, one ray at a time."""
    hit, points = np.full(WIDTH * HEIGHT, -1), np.zeros((WIDTH * HEIGHT, 3))
    for i in range(WIDTH * HEIGHT):
        row, column = divmod(i, WIDTH)
        ray = np.array(
            [(column + 0.5 - INTRINSICS.cx) / INTRINSICS.fl_x, -(row + 0.5 - INTRINSICS.cy) / INTRINSICS.fl_y, -1]
        )
        best = np.inf
        for number, (a, b, c) in enumerate(verts[faces]):
            normal = np.cross(b - a, c - a)
            if normal @ ray >= 0:
                continue
            distance = (normal @ a) / (normal @ ray)
            point = distance * ray
            inside = all(np.cross(q - p, point - p) @ normal >= 0 for p, q in ((a, b), (b, c), (c, a)))
            if inside and 0 < distance < best:
                best, hit[i], points[i] = distance, number, point
    return hit, points


@pytest.mark.parametrize("seed", range(3))
def test_every_sample_sees_the_nearest_front(seed):
    verts, faces = triangles(seed, 25)
    seen = rasterize(*project(verts, INTRINSICS, np.eye(4)), faces, WIDTH, HEIGHT)
    hit, points = first_hits(verts, faces)
    result = np.full(WIDTH * HEIGHT, -1)
    result[seen.samples] = seen.triangles
    assert (result == hit).mean() > 0.99  # rounding decides samples on an edge
    same = result[seen.samples] == hit[seen.samples]
    np.testing.assert_allclose(seen.interpolate(verts.astype(np.float32))[same], points[seen.samples][same], atol=2e-3)
    np.testing.assert_allclose(seen.nearness[same], -1 / points[seen.samples][same][:, 2], rtol=1e-3)


def test_weights_sum_to_one_and_belong_to_the_corners():
    verts, faces = triangles(0, 25)
    seen = rasterize(*project(verts, INTRINSICS, np.eye(4)), faces, WIDTH, HEIGHT)
    np.testing.assert_allclose(seen.weights.sum(-1), 1, atol=1e-5)
    assert seen.weights.min() > -1e-4
    assert np.array_equal(seen.corners, faces[seen.triangles])
    assert (np.diff(seen.samples) > 0).all()


def test_a_parallel_projection_interpolates_linearly():
    screen = np.array([[0, 0], [0, 10], [10, 0]], dtype=np.float32)
    height = np.array([1.0, 3.0, 5.0], dtype=np.float32)
    seen = rasterize(screen, height, np.array([[0, 1, 2]]), 10, 10, perspective=False)
    x, y = seen.samples % 10 + 0.5, seen.samples // 10 + 0.5
    np.testing.assert_allclose(seen.nearness, 1 + 0.2 * y + 0.4 * x, atol=1e-5)
    np.testing.assert_allclose(seen.interpolate(height[:, None])[:, 0], seen.nearness, atol=1e-5)


def test_back_faces_thin_triangles_and_triangles_outside_are_not_drawn():
    screen = np.array([[2, 2], [2, 8], [8, 2], [5, 5], [30, 30], [30, 40], [40, 30]], dtype=np.float32)
    near = np.ones(7, dtype=np.float32)
    for faces in ([[0, 2, 1]], [[1, 3, 2]], [[4, 5, 6]]):
        assert len(rasterize(screen, near, np.array(faces), 10, 10).samples) == 0
    assert len(rasterize(screen, near, np.array([[0, 1, 2]]), 10, 10).samples) > 10


def test_triangles_that_share_an_edge_leave_no_gap():
    n = 8
    grid = np.stack(np.meshgrid(np.linspace(1.3, 19.7, n), np.linspace(1.1, 14.9, n)), -1).reshape(-1, 2)
    grid += np.random.default_rng(0).uniform(-0.5, 0.5, grid.shape) * (np.abs(grid - 9) < 5).all(-1, keepdims=True)
    index = np.arange(n * n).reshape(n, n)
    a, b, c, d = (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:])
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    seen = rasterize(grid.astype(np.float32), np.ones(n * n, np.float32), faces, WIDTH, HEIGHT)
    covered = np.zeros((HEIGHT, WIDTH), dtype=bool)
    covered.ravel()[seen.samples] = True
    assert covered[2:14, 2:19].all()


def test_samples_can_be_indexed():
    verts, faces = triangles(0, 25)
    seen = rasterize(*project(verts, INTRINSICS, np.eye(4)), faces, WIDTH, HEIGHT)
    some = seen[np.array([3, 0])]
    assert some.samples.tolist() == [seen.samples[3], seen.samples[0]]
    np.testing.assert_array_equal(some.interpolate(verts)[1], seen.interpolate(verts)[0])


def test_a_moved_camera_sees_the_moved_scene():
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.3, 0.3, (9, 3)) - [0, 0, 2]
    T = np.eye(4)
    T[:3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    T[:3, 3] = [0.3, -0.1, 0.7]
    still, moved = project(points, INTRINSICS, np.eye(4)), project(points @ T[:3, :3].T + T[:3, 3], INTRINSICS, T)
    for a, b in zip(still, moved, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
