"""The background behind a moving person."""

from __future__ import annotations

import numpy as np

from partnerface_ns.tracking.video.background_plate import BackgroundPlate

SIZE, NUM = 32, 12


def frames(wide: np.ndarray, corners: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Squares of a wide image in which a bright bar moves, and where each shows the background."""
    result = []
    for index, (x, y) in enumerate(corners):
        rgb, free = wide[y : y + SIZE, x : x + SIZE].copy(), np.ones((SIZE, SIZE), bool)
        free[:, 2 * index : 2 * index + 6] = False
        rgb[~free] = 255
        result.append((rgb, free))
    return result


def test_the_plate_shows_what_the_person_covers():
    wide = np.random.default_rng(0).integers(0, 200, (60, 60, 3), dtype=np.uint8)
    corners = np.stack([np.arange(NUM), 3 + np.arange(NUM) % 3], -1)
    plate = BackgroundPlate(corners.astype(float), SIZE)
    for index, (rgb, free) in enumerate(frames(wide, corners)):
        plate.add(index, rgb, free)
    for index, (x, y) in enumerate(corners):
        background = plate.background(index)
        assert background is not None and background.known.mean() > 0.7
        true = wide[y : y + SIZE, x : x + SIZE] / 255
        np.testing.assert_allclose(background.colours.mean[background.known], true[background.known], atol=1e-4)
        assert background.colours.variance[background.known].max() < 1e-4


def test_a_moving_camera_shows_as_variance():
    generator = np.random.default_rng(0)
    plate = BackgroundPlate(np.zeros((NUM, 2)), SIZE)
    for index in range(NUM):
        rgb = generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        plate.add(index, rgb, np.ones((SIZE, SIZE), bool))
    background = plate.background(0)
    assert background is not None and np.median(background.colours.variance) > 0.1


def test_pixels_that_few_frames_show_are_unknown():
    plate = BackgroundPlate(np.zeros((3, 2)), SIZE)
    for index in range(3):
        plate.add(index, np.zeros((SIZE, SIZE, 3), np.uint8), np.ones((SIZE, SIZE), bool))
    background = plate.background(0)
    assert background is not None and not background.known.any()


def test_a_square_that_moves_far_gets_no_plate():
    plate = BackgroundPlate(np.array([[0.0, 0.0], [20.0 * SIZE, 0.0]]), SIZE)
    plate.add(0, np.zeros((SIZE, SIZE, 3), np.uint8), np.ones((SIZE, SIZE), bool))
    assert plate.background(0) is None
