"""The main face among the faces of a video."""

from __future__ import annotations

import numpy as np

from partnerface_ns.tracking.video.main_face import choose_main_face

BIG, SMALL = np.array([100.0, 80.0, 60.0, 60.0]), np.array([300.0, 90.0, 25.0, 25.0])


STEP = np.array([1.0, 0.0, 0.0, 0.0])


def test_a_face_whose_box_changes_its_size_is_one_path():
    inner = np.array([118.0, 98.0, 24.0, 24.0])
    subject = choose_main_face([[BIG] if i % 3 else [inner] for i in range(45)])
    assert not np.isnan(subject.boxes).any() and subject.num_others == 0


def test_the_large_steady_face_is_the_main_face():
    faces = [[SMALL, BIG + i * STEP] if i % 2 else [BIG + i * STEP, SMALL] for i in range(40)]
    subject = choose_main_face(faces)
    np.testing.assert_allclose(subject.boxes, [BIG + i * STEP for i in range(40)])
    assert subject.num_others == 1


def test_a_larger_face_that_passes_by_is_not_the_main_face():
    passing = np.array([200.0, 0.0, 90.0, 90.0])
    faces = [[BIG, passing] if 10 <= i < 18 else [BIG] for i in range(60)]
    subject = choose_main_face(faces)
    np.testing.assert_allclose(subject.boxes, [BIG] * 60)
    assert subject.num_others == 1


def test_another_face_counts_even_if_it_is_rarely_detected():
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
