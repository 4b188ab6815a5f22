"""Finding faces and choosing the subject among them."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.tracking.video.boxes import containment, overlap, suppress_duplicates
from partnerface_ns.tracking.video.crop import plan_crop
from partnerface_ns.tracking.video.detection import BlazeFaceDetector
from partnerface_ns.tracking.video.main_face import choose_main_face

BIG, SMALL = np.array([100.0, 80.0, 60.0, 60.0]), np.array([300.0, 90.0, 25.0, 25.0])
STEP = np.array([1.0, 0.0, 0.0, 0.0])


def test_overlap():
    assert overlap(BIG, BIG) == pytest.approx(1)
    assert overlap(BIG, BIG + 30 * STEP) == pytest.approx(1 / 3)
    assert overlap(BIG, SMALL) == 0


def test_a_box_in_another_lies_inside_it():
    inner = np.array([110.0, 90.0, 20.0, 20.0])
    assert containment(BIG, inner) == containment(inner, BIG) == pytest.approx(1)
    assert containment(BIG, BIG + 30 * STEP) == pytest.approx(0.5)
    assert containment(BIG, SMALL) == 0


@pytest.mark.parametrize("scores, kept", [((0.6, 0.9), 1), ((0.9, 0.6), 0)])
def test_a_box_in_another_is_the_same_face_and_the_surer_one_is_kept(scores, kept):
    """A detector's two looks may give a face's box and one of twice its size around it."""
    boxes = [np.array([221.0, 32.0, 93.0, 93.0]), np.array([239.0, 51.0, 46.0, 46.0])]
    found = suppress_duplicates([*zip(scores, boxes, strict=True), (0.7, SMALL + 200 * STEP)])
    assert len(found) == 2
    assert any((box == boxes[kept]).all() for box in found) and not any((box == boxes[1 - kept]).all() for box in found)


def test_faces_side_by_side_are_two():
    assert len(suppress_duplicates([(0.9, BIG), (0.8, BIG + 40 * STEP)])) == 2


def test_a_face_whose_box_changes_its_size_is_one_path():
    inner = np.array([118.0, 98.0, 24.0, 24.0])
    subject = choose_main_face([[BIG] if i % 3 else [inner] for i in range(45)])
    assert not np.isnan(subject.boxes).any() and subject.num_others == 0


def test_the_large_steady_face_is_the_subject():
    faces = [[SMALL, BIG + i * STEP] if i % 2 else [BIG + i * STEP, SMALL] for i in range(40)]
    subject = choose_main_face(faces)
    np.testing.assert_allclose(subject.boxes, [BIG + i * STEP for i in range(40)])
    assert subject.num_others == 1


def test_a_larger_face_that_passes_by_is_not_the_subject():
    passing = np.array([200.0, 0.0, 90.0, 90.0])
    faces = [[BIG, passing] if 10 <= i < 18 else [BIG] for i in range(60)]
    subject = choose_main_face(faces)
    np.testing.assert_allclose(subject.boxes, [BIG] * 60)
    assert subject.num_others == 1


def test_another_face_counts_though_it_is_seldom_looked_for():
    assert choose_main_face([[BIG, SMALL] if i % 15 == 0 else [BIG] for i in range(40)]).num_others == 1
    assert choose_main_face([[BIG, SMALL] if i == 15 else [BIG] for i in range(40)]).num_others == 0


def test_a_face_that_leaves_and_returns_elsewhere_is_the_same():
    faces = [[BIG]] * 20 + [[]] * 30 + [[BIG + 150 * STEP]] * 20
    subject = choose_main_face(faces)
    assert np.isnan(subject.boxes[20:50]).all() and not np.isnan(subject.boxes[[0, 19, 50, 69]]).any()
    assert subject.num_others == 0


def test_a_much_smaller_face_does_not_fill_the_gap():
    faces = [[BIG]] * 20 + [[SMALL]] * 30 + [[BIG]] * 20
    subject = choose_main_face(faces)
    assert np.isnan(subject.boxes[20:50]).all() and subject.num_others == 1


def test_faces_are_found_in_images(images):
    detector = BlazeFaceDetector()
    for rgb, _ in images[:3]:
        boxes = detector(rgb)
        assert len(boxes) == 1
        x, y, width, height = boxes[0]
        assert 85 < x + width / 2 < 171 and 60 < y + height / 2 < 160 and 40 < width < 110


def test_a_small_face_in_a_large_frame_is_found(images):
    frame = np.full((1080, 1920, 3), 130, dtype=np.uint8)
    small = images[0][0][::2, ::2]
    frame[500:628, 1500:1628] = small
    detector = BlazeFaceDetector()
    first, second = detector(frame), detector(frame)
    assert len(first) == len(second) == 1
    centre = first[0][:2] + first[0][2:] / 2
    np.testing.assert_allclose(centre, (1564, 555), atol=20)
    np.testing.assert_allclose(first[0], second[0], atol=8)


def test_a_frame_without_face_gives_none():
    assert BlazeFaceDetector()(np.full((120, 160, 3), 90, dtype=np.uint8)) == []


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
def test_a_head_that_does_not_fit_is_told_of_and_its_middle_is_kept(centre, why):
    boxes = boxes_at(np.full((40, 2), centre), 150.0)
    crop = plan_crop(boxes, (460, 288), 25.0, heads_at(boxes, (-100, -200 if why == "too large" else -100, 100, 120)))
    assert crop.cut_off.all()


def test_the_square_follows_a_walking_head_with_its_hair():
    x = np.linspace(300, 1600, 200)
    boxes = boxes_at(np.stack([x, np.full(200, 200.0)], -1), 150.0)
    crop = plan_crop(boxes, (1080, 1920), 25.0, heads_at(boxes, (-120, -190, 120, 80)))
    assert not crop.still and crop.corners[:, 1].max() <= 10 and not crop.cut_off.any()
