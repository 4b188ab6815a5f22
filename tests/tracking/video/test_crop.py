"""The square crop around a face."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.tracking.video.crop import plan_crop


def boxes_at(centres: np.ndarray, size: float) -> np.ndarray:
    return np.concatenate([centres - size / 2, np.full((len(centres), 2), size)], 1)


def test_the_square_stands_still_for_a_face_that_stays():
    rng = np.random.default_rng(0)
    boxes = boxes_at(np.array([900.0, 500.0]) + rng.normal(0, 8, (100, 2)), 200.0)
    boxes[30:40] = np.nan
    crop = plan_crop(boxes, (1080, 1920), 25.0)
    assert crop.still and (crop.corners == crop.corners[0]).all()
    centre = crop.corners[0] + crop.side / 2
    assert abs(centre[0] - 900) < 10 and 0 < centre[1] - 500 < 0.1 * crop.side


def test_the_square_follows_a_face_that_walks_smoothly_and_stays_inside():
    x = np.linspace(100, 1800, 200)
    crop = plan_crop(boxes_at(np.stack([x, np.full(200, 300.0)], -1), 150.0), (1080, 1920), 25.0)
    assert not crop.still
    assert crop.corners.min() >= 0 and (crop.corners[:, 0] + crop.side).max() <= 1920
    free = (crop.corners[1:-1, 0] > 20) & (crop.corners[1:-1, 0] + crop.side < 1900)
    assert np.abs(np.diff(crop.corners[:, 0], n=2)[free]).max() <= 2
    inside = (x > crop.corners[:, 0]) & (x < crop.corners[:, 0] + crop.side)
    assert inside.all()


def test_a_face_that_fills_the_frame_takes_all_of_it():
    crop = plan_crop(boxes_at(np.full((10, 2), 256.0), 170.0), (512, 512), 25.0)
    assert crop.side == 512 and (crop.corners == 0).all()


def test_cutting_resizes_the_right_part():
    crop = plan_crop(boxes_at(np.full((5, 2), 200.0), 60.0), (400, 600), 25.0)
    frame = np.zeros((400, 600, 3), dtype=np.uint8)
    x, y = crop.corners[0].astype(int)
    side = int(crop.side)
    frame[y : y + side, x : x + side] = (10, 200, 30)
    for size in (side, 64, 300):
        image = crop.cut(frame, 0, size)
        assert image.shape == (size, size, 3)
        np.testing.assert_allclose(image[2:-2, 2:-2], np.broadcast_to((10, 200, 30), (size - 4, size - 4, 3)), atol=2)


def heads_at(boxes: np.ndarray, reach: tuple[float, float, float, float]) -> np.ndarray:
    """Heads that reach some pixels to the left, above, to the right and below a face's centre; every tenth measured."""
    heads = np.tile(boxes[:, :2] + boxes[:, 2:] / 2, 2) + np.array(reach)
    heads[np.arange(len(boxes)) % 10 > 0] = np.nan
    return heads


def test_the_square_is_placed_by_hair_and_chin():
    """A narrow frame: the square is as wide as it, and hair and chin both fit though the face then lies low."""
    boxes = boxes_at(np.full((40, 2), [144.0, 250.0]), 150.0)
    crop = plan_crop(boxes, (460, 288), 25.0, heads_at(boxes, (-100, -170, 100, 80)))
    top, bottom = crop.corners[0, 1], crop.corners[0, 1] + crop.side
    assert crop.side == 288 and top < 80 and bottom > 330 and not crop.cut_off.any()
    without = plan_crop(boxes, (460, 288), 25.0)
    assert without.corners[0, 1] > 80, "by the face alone hair is cut off"


def test_a_wide_head_makes_the_square_larger():
    boxes = boxes_at(np.full((40, 2), [900.0, 500.0]), 100.0)
    heads = heads_at(boxes, (-250, -200, 220, 60))
    crop = plan_crop(boxes, (1080, 1920), 25.0, heads)
    assert crop.side > 470 and not crop.cut_off.any()
    assert crop.corners[0, 0] < 650 and crop.corners[0, 0] + crop.side > 1120


@pytest.mark.parametrize("centre, why", [((144.0, 150.0), "too large"), ((144.0, 100.0), "outside the frame")])
def test_a_head_that_does_not_fit_is_flagged_and_centred(centre, why):
    boxes = boxes_at(np.full((40, 2), centre), 150.0)
    crop = plan_crop(boxes, (460, 288), 25.0, heads_at(boxes, (-100, -200 if why == "too large" else -100, 100, 120)))
    assert crop.cut_off.all()


def test_the_square_follows_a_walking_head_with_its_hair():
    x = np.linspace(300, 1600, 200)
    boxes = boxes_at(np.stack([x, np.full(200, 200.0)], -1), 150.0)
    crop = plan_crop(boxes, (1080, 1920), 25.0, heads_at(boxes, (-120, -190, 120, 80)))
    assert not crop.still and crop.corners[:, 1].max() <= 10 and not crop.cut_off.any()
