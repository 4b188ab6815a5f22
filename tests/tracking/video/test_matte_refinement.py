"""Sharp mattes from rough ones."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from partnerface_ns.tracking.video.background_plate import BackgroundPlate
from partnerface_ns.tracking.video.matte_refinement import refine_matte

SIZE, FACE = 160, 70.0
ORANGE, GREEN = np.array([225.0, 130.0, 40.0]), np.array([40.0, 110.0, 70.0])


@pytest.fixture
def scene(disc) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A disc over a textured background: image, alpha and a matte that is blurred and displaced."""
    generator = np.random.default_rng(0)
    alpha = disc(SIZE, (80.4, 83.2), 45.0)
    texture = cv2.resize(generator.normal(0, 22, (40, 40)), (SIZE, SIZE))[..., None]
    mixed = alpha[..., None] * ORANGE + (1 - alpha[..., None]) * (GREEN + texture)
    rgb = np.clip(np.round(mixed + generator.normal(0, 2, mixed.shape)), 0, 255).astype(np.uint8)
    rough = cv2.GaussianBlur(disc(SIZE, (81.5, 82.0), 44.0), (0, 0), 2.0)
    return rgb, alpha, rough


def test_alpha_and_foreground_of_a_known_image(scene):
    rgb, alpha, rough = scene
    matte = refine_matte(rgb, rough, FACE)
    band = (cv2.dilate(alpha, np.ones((9, 9))) > 0) & (cv2.erode(alpha, np.ones((9, 9))) < 1)
    assert np.abs(matte.alpha - alpha)[band].mean() < 0.25 * np.abs(rough - alpha)[band].mean()
    assert matte.alpha.min() >= 0 and matte.alpha.max() <= 1
    mixed = (alpha > 0.2) & (alpha < 0.8)
    assert np.abs(255 * matte.foreground - ORANGE)[mixed].mean() < 0.2 * np.abs(rgb - ORANGE)[mixed].mean()


def test_image_is_alpha_foreground_and_background(scene):
    rgb, _, rough = scene
    matte = refine_matte(rgb, rough, FACE)
    share = matte.alpha[..., None]
    behind = (rgb / 255 - share * matte.foreground) / np.maximum(1 - share, 1e-3)
    part = matte.alpha < 0.99
    assert behind[part].min() > -0.01 and behind[part].max() < 1.01
    solid = matte.alpha == 1
    np.testing.assert_allclose(matte.foreground[solid], rgb[solid] / 255, atol=0.02)


def test_a_known_background_separates_equal_colours(disc):
    # Noise that looks the same on both sides can only be told apart by a known background.
    generator = np.random.default_rng(2)
    behind, front = generator.integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    alpha, rough = disc(SIZE, (80, 80), 45.0), cv2.GaussianBlur(disc(SIZE, (82, 80), 43.0), (0, 0), 2.0)
    rgb = np.round(alpha[..., None] * front + (1 - alpha[..., None]) * behind).astype(np.uint8)
    plate = BackgroundPlate(np.zeros((5, 2)), SIZE)
    for index in range(5):
        plate.add(index, behind, np.ones((SIZE, SIZE), bool))
    known, unknown = (
        np.abs(refine_matte(rgb, rough, FACE, background).alpha - alpha).mean()
        for background in (plate.background(0), None)
    )
    assert known < 0.6 * unknown


def test_a_matte_without_person_stays_empty(scene):
    assert not refine_matte(scene[0], np.zeros((SIZE, SIZE), np.float32), FACE).alpha.any()
