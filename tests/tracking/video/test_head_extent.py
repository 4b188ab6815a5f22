"""How far the head reaches around its face."""

from __future__ import annotations

import numpy as np

from partnerface_ns.tracking.video.head_extent import head_extent, head_window

BOX = np.array([80.0, 80.0, 40.0, 40.0])


def person() -> np.ndarray:
    """A head with hair from row 50 and ears from column 70 to 130, on shoulders that are wider."""
    matte = np.zeros((200, 200))
    matte[50:125, 70:130] = 1
    matte[115:, 20:180] = 1
    return matte


def test_the_head_reaches_from_hair_to_chin_and_from_ear_to_ear():
    np.testing.assert_allclose(head_extent(person(), BOX), (70, 50, 130, 122))


def test_another_person_does_not_widen_the_head():
    matte = person()
    matte[60:110, 140:] = 1
    np.testing.assert_allclose(head_extent(matte, BOX), (70, 50, 130, 122))


def test_a_segmentation_without_the_face_gives_nan():
    assert np.isnan(head_extent(np.zeros((200, 200)), BOX)).all()


def test_the_window_stays_inside_the_frame_and_contains_the_hair():
    assert head_window(BOX, (200, 200)) == (20, 20, 180, 180)
    assert head_window(BOX - np.array([0, 60, 0, 0]), (150, 110)) == (20, 0, 110, 120)
