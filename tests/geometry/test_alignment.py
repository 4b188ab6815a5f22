"""Alignment of points: a known transform is recovered, mirrors are never used."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from partnerface_ns.geometry.alignment import align_points, align_vectors

POINTS = np.random.default_rng(1).standard_normal((20, 3))
ROTATION = Rotation.from_rotvec([0.3, -0.2, 0.9]).as_matrix()


def test_a_known_rotation_is_recovered():
    np.testing.assert_allclose(align_vectors(POINTS, POINTS @ ROTATION.T), ROTATION, atol=1e-12)


def test_the_rotation_is_never_a_mirror():
    assert np.linalg.det(align_vectors(POINTS, POINTS * [1, 1, -1])) == pytest.approx(1)


def test_a_known_similarity_is_recovered():
    shift = np.array([0.1, -2.0, 0.7])
    scale, rotation, translation = align_points(POINTS, 1.7 * POINTS @ ROTATION.T + shift)
    assert scale == pytest.approx(1.7)
    np.testing.assert_allclose(rotation, ROTATION, atol=1e-12)
    np.testing.assert_allclose(translation, shift, atol=1e-12)


def test_no_similarity_nearby_fits_better():
    rng = np.random.default_rng(2)
    targets = POINTS + 0.3 * rng.standard_normal(POINTS.shape)
    scale, rotation, translation = align_points(POINTS, targets)
    error = lambda s, R, t: np.square(s * POINTS @ R.T + t - targets).sum()  # noqa: E731
    for _ in range(50):
        turn = Rotation.from_rotvec(0.01 * rng.standard_normal(3)).as_matrix()
        other = error(
            scale + 0.01 * rng.standard_normal(), turn @ rotation, translation + 0.01 * rng.standard_normal(3)
        )
        assert other > error(scale, rotation, translation)
