"""The rectangle of an image that a network looks at."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.tracking.video.networks.region import ImageRegion


def slow_cut(region: ImageRegion, rgb: np.ndarray, side: int, repeat_border: bool) -> np.ndarray:
    rows, columns = rgb.shape[:2]
    result = np.zeros((side, side, 3))
    cos, sin = np.cos(region.angle), np.sin(region.angle)
    for row, column in np.ndindex(side, side):
        u, v = (column / side - 0.5) * region.size[0], (row / side - 0.5) * region.size[1]
        x, y = region.centre[0] + cos * u - sin * v, region.centre[1] + sin * u + cos * v
        x0, y0 = int(np.floor(x)), int(np.floor(y))
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = (x - x0 if j else x0 + 1 - x) * (y - y0 if i else y0 + 1 - y)
            a, b = y0 + i, x0 + j
            if repeat_border:
                a, b = np.clip(a, 0, rows - 1), np.clip(b, 0, columns - 1)
            if 0 <= a < rows and 0 <= b < columns:
                result[row, column] += weight * rgb[a, b]
    return result


def smooth_image(rows: int, columns: int) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns] / 60
    return (np.stack([x, y, 0.5 + 0.4 * np.sin(3 * x + 2 * y)], -1) * 250).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("repeat_border", [False, True])
@pytest.mark.parametrize("angle", [0.0, 0.5, -2.0])
def test_a_cut_agrees_with_the_slow_one(angle, repeat_border):
    region = ImageRegion(np.array([30.3, 21.8]), np.array([55.0, 48.0]), angle)
    rgb = smooth_image(44, 57)
    cut = region.cut(rgb, 24, repeat_border)
    # Places are rounded to a 32nd of a pixel, which shows where black begins.
    difference = np.abs(cut - slow_cut(region, rgb, 24, repeat_border))
    assert np.median(difference) < 0.7 and difference.max() < 9


def test_the_corners_of_a_turned_region():
    region = ImageRegion(np.array([100.0, 50.0]), np.array([40.0, 20.0]), np.pi / 2)
    corners = region.to_image(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 0.5]]))
    np.testing.assert_allclose(corners, [[110, 30], [110, 70], [90, 70], [100, 50]], atol=1e-9)


def test_the_whole_image_and_the_square_around_it():
    whole = ImageRegion.whole(np.zeros((30, 80, 3), dtype=np.uint8))
    np.testing.assert_allclose(whole.to_image(np.array([[0.0, 0.0], [1.0, 1.0]])), [[0, 0], [80, 30]])
    np.testing.assert_allclose(whole.to_square().to_image(np.array([[0.0, 0.0], [1.0, 1.0]])), [[0, -25], [80, 55]])


def test_a_square_around_a_face_sees_it_upright():
    eyes = np.array([[40.0, 60.0], [70.0, 40.0]])
    low, high = np.array([20.0, 10.0]), np.array([80.0, 130.0])
    region = ImageRegion.around(low, high, eyes, 1.5)
    np.testing.assert_allclose(region.centre, [50, 70])
    np.testing.assert_allclose(region.size, [180, 180])
    corners = region.to_image(np.array([[0.0, 0.0], [1.0, 0.0]]))
    right = (corners[1] - corners[0]) / 180
    np.testing.assert_allclose(right, (eyes[1] - eyes[0]) / np.linalg.norm(eyes[1] - eyes[0]), atol=1e-9)
