"""478 landmarks of a face."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from partnerface_ns.tracking.video.face_topology import NUM_LANDMARKS
from partnerface_ns.tracking.video.networks import face_mesh
from partnerface_ns.tracking.video.networks.attention import (
    EYE_LEFT,
    EYE_RIGHT,
    GRID_SIDE,
    LIPS,
    apply_map,
    grid_to_region,
)
from partnerface_ns.tracking.video.networks.face_mesh import FaceMesh, refine_landmarks, region_around
from partnerface_ns.tracking.video.networks.region import ImageRegion


def mesh_of(follow: bool) -> FaceMesh:
    return FaceMesh(follow, min_score=0.3, min_presence=0.3)


def test_landmarks_are_where_mediapipe_finds_them(mediapipe_says, monkeypatch):
    monkeypatch.setattr(face_mesh, "_MAX_LOOKS", 1)  # MediaPipe looks once
    mesh = mesh_of(follow=True)
    for image, expected in zip(mediapipe_says["images"], mediapipe_says["landmarks"], strict=True):
        np.testing.assert_allclose(mesh(image), expected, atol=0.1)


def test_landmarks_of_a_face_at_the_border(mediapipe_says):
    rgb = np.ascontiguousarray(mediapipe_says["images"][0][60:, 100:])
    np.testing.assert_allclose(mesh_of(follow=False)(rgb), mediapipe_says["landmarks_at_border"], atol=0.1)


def test_images_that_are_no_video_do_not_depend_on_each_other(mediapipe_says):
    first, second = mediapipe_says["images"]
    mesh = mesh_of(follow=False)
    mesh(first)
    np.testing.assert_array_equal(mesh(second), mesh_of(follow=False)(second))


def test_a_face_is_detected_again_only_when_it_was_lost(mediapipe_says):
    first, second = mediapipe_says["images"]
    nothing = np.full_like(first, 100)
    mesh = mesh_of(follow=True)
    (detect,), num_detections = mesh._detectors, 0

    def counting(rgb):
        nonlocal num_detections
        num_detections += 1
        return detect(rgb)

    mesh._detectors = [counting]
    landmarks_refined = [mesh(rgb) is not None for rgb in (first, second, first, nothing, nothing, first)]
    assert landmarks_refined == [True, True, True, False, False, True]
    assert num_detections == 4
    mesh.forget()
    assert mesh(second) is not None and num_detections == 5


@pytest.mark.parametrize(("degrees", "shift"), [(0, 20), (30, 0)])
def test_a_face_that_jumps_is_found_as_well_as_before(mediapipe_says, monkeypatch, degrees, shift):
    import cv2

    before = mediapipe_says["images"][0]
    motion = cv2.getRotationMatrix2D((176.0, 128.0), degrees, 1.0)
    motion[:, 2] += shift
    after = cv2.warpAffine(before, motion, before.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)

    def error() -> float:
        mesh = mesh_of(follow=True)
        expected = mesh(before)[:, :2] @ motion[:, :2].T + motion[:, 2]
        return float(np.linalg.norm(mesh(after)[:, :2] - expected, axis=1).mean())

    assert error() < 1.0, "pixels"
    monkeypatch.setattr(face_mesh, "_MAX_LOOKS", 1)
    assert error() > 3.0, "one look is not enough"


@pytest.mark.parametrize(("before", "after", "far"), [(0.0, np.pi, True), (3.13, -3.13, False), (0.0, 0.2, True)])
def test_turns_are_compared_on_a_circle(before, after, far):
    centre, size = np.array([50.0, 60.0]), np.array([40.0, 40.0])
    assert face_mesh._is_far(ImageRegion(centre, size, before), ImageRegion(centre, size, after)) == far


def test_a_face_that_jumps_out_of_its_region_is_found_in_the_same_image(mediapipe_says):
    first = mediapipe_says["images"][0]
    small = np.ascontiguousarray(first[::3, 48:304:3])
    left, right = np.full((2, 300, 300, 3), 100, dtype=np.uint8)
    left[: len(small), : len(small)] = small
    right[-len(small) :, -len(small) :] = small
    mesh = FaceMesh(True, 0.3, 0.3, far=True)
    assert mesh(left) is not None and mesh(right)[:, 0].min() > 200


@pytest.mark.parametrize("size", [0.3, 0.6])
def test_a_small_face_is_found_if_asked(mediapipe_says, size):
    import cv2

    face = mediapipe_says["images"][0]
    room = np.full((480, 640, 3), 120, np.uint8)
    small = cv2.resize(face, None, fx=size, fy=size, interpolation=cv2.INTER_AREA)
    room[100 : 100 + small.shape[0], 60 : 60 + small.shape[1]] = small
    assert mesh_of(follow=False)(room) is None
    found = FaceMesh(False, 0.3, 0.3, far=True)(room)
    expected = size * mesh_of(follow=False)(face)[:, :2] + [60, 100]
    assert found is not None and np.median(np.linalg.norm(found[:, :2] - expected, axis=-1)) < 3


@pytest.mark.parametrize("angle", [-0.5, 0.4])
def test_landmarks_turn_with_the_image(mediapipe_says, angle):
    import cv2

    rgb = mediapipe_says["images"][0]
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    centre = np.array([150.0, 130.0])
    matrix = np.column_stack([turn, centre - turn @ centre])
    turned = cv2.warpAffine(rgb, matrix, rgb.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    before, after = mesh_of(follow=False)(rgb), mesh_of(follow=False)(turned)
    distance = np.linalg.norm(after[:, :2] - apply_map(matrix, before[:, :2]), axis=-1)
    assert np.median(distance) < 1.5 and distance.max() < 8


def test_the_next_input_region_shows_the_face_upright():
    rng = np.random.default_rng(0)
    places = rng.uniform((50, 20), (90, 80), (NUM_LANDMARKS, 2))
    landmarks = np.column_stack([places, np.zeros(NUM_LANDMARKS)])
    landmarks[0, :2], landmarks[1, :2] = (50, 20), (90, 80)
    landmarks[33, :2], landmarks[263, :2] = (60, 50), (80, 70)
    region = region_around(landmarks)
    np.testing.assert_allclose(region.centre, [70, 50])
    np.testing.assert_allclose(region.size, [90, 90])
    assert region.angle == pytest.approx(np.pi / 4)


def test_regions_replace_positions_and_keep_depths():
    rng = np.random.default_rng(0)
    mesh = rng.uniform(40, 150, (468, 3)).astype(np.float32)
    features = np.zeros((48, 48, 32), dtype=np.float32)
    middle = 4 * GRID_SIDE / 2

    def regions(*samples):
        assert [s.shape for s in samples] == [(GRID_SIDE, GRID_SIDE, 32)] * 3
        return [np.full((1, 1, 2 * n), middle, dtype=np.float32) for n in (80, 71, 71, 5, 5)]

    landmarks_refined = refine_landmarks(features, mesh, regions)
    assert landmarks_refined.shape == (NUM_LANDMARKS, 3)
    np.testing.assert_array_equal(landmarks_refined[:468, 2], mesh[:, 2])
    for region, iris in ((LIPS, None), (EYE_RIGHT, slice(468, 473)), (EYE_LEFT, slice(473, 478))):
        centre = 4 * apply_map(grid_to_region(region, mesh[:, :2] / 4.0), np.full(2, GRID_SIDE / 2))
        np.testing.assert_allclose(
            landmarks_refined[list(region.landmarks), :2],
            np.broadcast_to(centre, (len(region.landmarks), 2)),
            rtol=1e-6,
        )
        if iris is not None:
            np.testing.assert_allclose(landmarks_refined[iris, :2], np.broadcast_to(centre, (5, 2)), rtol=1e-6)
            np.testing.assert_allclose(landmarks_refined[iris, 2], mesh[list(region.landmarks[:16]), 2].mean())
    others = np.setdiff1d(np.arange(468), [*LIPS.landmarks, *EYE_RIGHT.landmarks, *EYE_LEFT.landmarks])
    np.testing.assert_array_equal(landmarks_refined[others], mesh[others])


def test_threads_do_not_change_the_result(mediapipe_says):
    images = list(mediapipe_says["images"]) * 3
    alone = [mesh_of(follow=False)(rgb) for rgb in images]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda rgb: mesh_of(follow=False)(rgb), images))
    np.testing.assert_array_equal(together, alone)
