"""The default face detector."""

from __future__ import annotations

import numpy as np

from partnerface_ns.tracking.video.detection import BlazeFaceDetector


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
