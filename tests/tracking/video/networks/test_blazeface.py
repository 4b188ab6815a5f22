"""Faces in an image: anchors, boxes and what is done with those that overlap."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.tracking.video.networks.blazeface import (
    FULL_RANGE,
    SHORT_RANGE,
    BlazeFace,
    anchor_centres,
    average_overlapping,
    box_overlap,
    decode_boxes,
)

MODELS = {"short": (SHORT_RANGE, 0.5), "full": (FULL_RANGE, 0.6)}
"""With the scores that mediapipe asks for."""


def test_anchors_of_two_grids():
    centres = []
    for cells, anchors in ((16, 2), (8, 6)):
        for row in range(cells):
            for column in range(cells):
                centres += [((column + 0.5) / cells, (row + 0.5) / cells)] * anchors
    result = anchor_centres(SHORT_RANGE.grids)
    assert result.shape == (896, 2) and len(anchor_centres(FULL_RANGE.grids)) == 2304
    np.testing.assert_allclose(result, centres)


def test_a_box_is_relative_to_its_anchor():
    offsets = np.zeros((1, 16), dtype=np.float32)
    offsets[0, :6] = (10, -20, 40, 60, 5, 7)
    points = decode_boxes(offsets, np.array([[0.5, 0.25]]), 100)[0] * 100
    np.testing.assert_allclose(points[0], [60 - 20, 5 - 30], atol=1e-5)
    np.testing.assert_allclose(points[1], [60 + 20, 5 + 30], atol=1e-5)
    np.testing.assert_allclose(points[2], [55, 32], atol=1e-5)
    np.testing.assert_allclose(points[3:], np.broadcast_to([50, 25], (5, 2)), atol=1e-5)


def slow_average(corners: np.ndarray, scores: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
    left = sorted(range(len(scores)), key=lambda i: -scores[i])
    points, best = [], []
    while left:
        first = left[0]
        same = [i for i in left if slow_overlap(corners[i], corners[first]) > 0.3]
        total = sum(scores[i] for i in same)
        points.append(sum(scores[i] * corners[i] for i in same) / total)
        best.append(scores[first])
        left = [i for i in left if i not in same]
    return points, best


def slow_overlap(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[1, 0], b[1, 0]) - max(a[0, 0], b[0, 0])
    height = min(a[1, 1], b[1, 1]) - max(a[0, 1], b[0, 1])
    shared = max(width, 0) * max(height, 0)
    area = sum((c[1, 0] - c[0, 0]) * (c[1, 1] - c[0, 1]) for c in (a, b))
    return shared / (area - shared)


def test_boxes_that_overlap_are_averaged_by_score():
    rng = np.random.default_rng(0)
    centres = rng.uniform(0, 1, (40, 1, 2))
    half = rng.uniform(0.05, 0.2, (40, 1, 2))
    corners = np.concatenate([centres - half, centres + half, rng.uniform(0, 1, (40, 6, 2))], 1)
    scores = rng.uniform(0.5, 1, 40)
    expected_points, expected_scores = slow_average(corners, scores)
    points, best = average_overlapping(corners, scores)
    assert 5 < len(best) < 35
    np.testing.assert_allclose(points, expected_points)
    np.testing.assert_allclose(best, expected_scores)


def test_boxes_without_area_and_no_box_at_all():
    points, scores = average_overlapping(np.zeros((2, 8, 2)), np.array([0.6, 0.9]))
    assert points.shape == (2, 8, 2) and scores.tolist() == [0.9, 0.6]
    points, scores = average_overlapping(np.zeros((0, 8, 2)), np.zeros(0))
    assert points.shape == (0, 8, 2) and len(scores) == 0
    assert box_overlap(np.zeros((2, 2)), np.zeros((1, 2, 2))).tolist() == [0]


@pytest.mark.parametrize("name", MODELS)
def test_a_face_is_where_mediapipe_finds_it(name, mediapipe_says):
    faces = BlazeFace(*MODELS[name])(mediapipe_says["images"][0])
    assert len(faces.scores) == 1
    np.testing.assert_allclose(faces.scores[0], mediapipe_says[f"{name}_score"], atol=1e-4)
    np.testing.assert_allclose(faces.boxes[0], mediapipe_says[f"{name}_box"], atol=0.05)
    np.testing.assert_allclose(faces.points[0], mediapipe_says[f"{name}_points"], atol=0.05)


@pytest.mark.parametrize("name", MODELS)
def test_faces_with_a_low_score_are_left_out(name, mediapipe_says):
    score = float(mediapipe_says[f"{name}_score"])
    faces = BlazeFace(MODELS[name][0], score + 0.01)(mediapipe_says["images"][0])
    assert faces.boxes.shape == (0, 4) and faces.points.shape == (0, 6, 2) and faces.scores.shape == (0,)
