"""The closer look at lips and eyes, between the two parts of the face mesh network."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.tracking.video.networks.attention import (
    EYE_LEFT,
    EYE_RIGHT,
    GRID_SIDE,
    LIPS,
    apply_map,
    grid_to_region,
    sample_features,
)

REGIONS = {"lips": LIPS, "eye_right": EYE_RIGHT, "eye_left": EYE_LEFT}


def slow_sample(features: np.ndarray, grid_map: np.ndarray) -> np.ndarray:
    rows, columns, channels = features.shape
    result = np.zeros((GRID_SIDE, GRID_SIDE, channels))
    for i, j in np.ndindex(GRID_SIDE, GRID_SIDE):
        x, y = grid_map @ (j + 0.5, i + 0.5, 1) - 0.5
        if x < 0 or y < 0 or x > columns - 1 or y > rows - 1:
            continue
        for a in range(rows):
            for b in range(columns):
                result[i, j] += max(0, 1 - abs(y - a)) * max(0, 1 - abs(x - b)) * features[a, b]
    return result


@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_sampling_agrees_with_the_slow_implementation(angle):
    features = np.random.default_rng(0).normal(size=(12, 9, 3)).astype(np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    grid_map = np.array([[0.6 * cos, -0.8 * sin, 1.3], [0.6 * sin, 0.8 * cos, -0.7]])
    sampled, expected = sample_features(features, grid_map), slow_sample(features, grid_map)
    assert (expected == 0).all(-1).any() and (expected != 0).all(-1).any()
    np.testing.assert_allclose(sampled, expected, atol=1e-5)


def test_a_map_that_moves_by_whole_pixels_copies():
    features = np.random.default_rng(0).normal(size=(24, 20, 2)).astype(np.float32)
    sampled = sample_features(features, np.array([[1.0, 0.0, 4.0], [0.0, 1.0, 8.0]]))
    np.testing.assert_allclose(sampled, features[8 : 8 + GRID_SIDE, 4 : 4 + GRID_SIDE], atol=1e-6)


@pytest.mark.parametrize("name", REGIONS)
def test_the_grid_covers_the_box_of_the_landmarks_and_a_half_more(name):
    region = REGIONS[name]
    landmarks = np.random.default_rng(1).uniform(10, 30, (468, 2))
    left, right = region.corners
    landmarks[right] = landmarks[left] + (7, 0)
    low, high = landmarks[list(region.landmarks)].min(0), landmarks[list(region.landmarks)].max(0)
    grid_map = grid_to_region(region, landmarks)
    corners = apply_map(grid_map, np.array([[0.0, 0.0], [GRID_SIDE, GRID_SIDE]]))
    np.testing.assert_allclose(corners.mean(0), (low + high) / 2)
    np.testing.assert_allclose(corners[1] - corners[0], 1.5 * (high - low))


@pytest.mark.parametrize("name", REGIONS)
def test_the_grid_moves_with_the_face(name):
    landmarks = np.random.default_rng(2).uniform(10, 30, (468, 2))
    angle = 2.1
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = landmarks @ rotation.T * 1.3 + (5, -3)
    before, after = grid_to_region(REGIONS[name], landmarks), grid_to_region(REGIONS[name], moved)
    grid = np.random.default_rng(3).uniform(0, GRID_SIDE, (5, 2))
    np.testing.assert_allclose(apply_map(after, grid), apply_map(before, grid) @ rotation.T * 1.3 + (5, -3))


def test_the_line_between_the_corners_becomes_horizontal():
    landmarks = np.random.default_rng(4).uniform(10, 30, (468, 2))
    for region in REGIONS.values():
        left, right = landmarks[list(region.corners)]
        direction = np.linalg.solve(grid_to_region(region, landmarks)[:, :2], right - left)
        assert direction[0] > 0 and abs(direction[1]) < 1e-9
