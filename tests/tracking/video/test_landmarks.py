"""The landmark detector and its mirror."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.tracking.video.face_topology import (
    EYE_LEFT,
    EYE_RIGHT,
    IRIS_LEFT,
    IRIS_RIGHT,
    NUM_LANDMARKS,
    mirror_indices,
)
from partnerface_ns.tracking.video.landmarks import FaceMeshDetector


def test_mirroring_swaps_the_eyes_and_is_its_own_inverse():
    mirror = mirror_indices()
    np.testing.assert_array_equal(mirror[mirror], np.arange(NUM_LANDMARKS))
    assert set(mirror[list(EYE_LEFT)]) == set(EYE_RIGHT)
    assert set(mirror[IRIS_LEFT]) == set(range(IRIS_RIGHT.start, IRIS_RIGHT.stop))
    assert mirror[1] == 1, "the tip of the nose is its own mirror"


@pytest.fixture(scope="module")
def looks(images):
    rgb = images[0][0]
    both, one = FaceMeshDetector(follow=False), FaceMeshDetector(follow=False, mirrored=False)
    return both(rgb), one(rgb), both(np.ascontiguousarray(rgb[:, ::-1]))


def test_landmarks_lie_on_the_face(looks, images):
    (points, disagreement), (single, none), _ = looks
    assert points.shape == (NUM_LANDMARKS, 3) and none == 0 and 0 < disagreement < 3
    x, y = points[:, :2].round().astype(int).T
    assert (images[0][1][y, x] > 0.5).mean() > 0.97
    assert points[IRIS_LEFT, 0].mean() > points[1, 0] > points[IRIS_RIGHT, 0].mean(), "left is the subject's left"
    assert points[1, 2] < points[234, 2], "the nose is nearer than the cheek"
    assert np.abs(points - single)[:, :2].max() < 6


def test_the_mean_of_both_detections_is_symmetric(looks, images):
    (points, _), _, (mirrored, _) = looks
    width = images[0][0].shape[1]
    back = mirrored[mirror_indices()] * (-1, 1, 1) + (width, 0, 0)
    np.testing.assert_allclose(back[:, :2], points[:, :2], atol=1e-3)


def test_no_face_gives_none():
    assert FaceMeshDetector(follow=False)(np.full((128, 128, 3), 100, dtype=np.uint8)) is None
