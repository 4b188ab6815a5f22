"""Where the person is."""

from __future__ import annotations

import numpy as np

from partnerface_ns.tracking.video.networks.selfie_segmenter import SelfieSegmenter
from partnerface_ns.tracking.video.rough_matte import find_person, follow_edges, surely_background

SIZE = 200


def face(centre: tuple[float, float], height: float) -> np.ndarray:
    """Landmarks on a circle."""
    angle = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    circle = np.stack([np.sin(angle), np.cos(angle), np.zeros(478)], -1)
    return np.array([*centre, 0]) + height / 2 * circle


def test_the_person_is_cut_out(images):
    for rgb, truth in images[:3]:
        matte = follow_edges(rgb, find_person(SelfieSegmenter(), rgb, face((128, 110), 80)))
        assert matte.shape == truth.shape and matte.min() >= 0 and matte.max() <= 1
        person, true = matte > 0.5, truth > 0.5
        assert (person & true).sum() / (person | true).sum() > 0.95


def test_the_head_is_taken_from_the_closer_look():
    looks = []

    def matting(rgb):
        looks.append(rgb.shape)
        return np.full(rgb.shape[:2], 0.2 if len(looks) == 1 else 0.8, np.float32)

    matte = find_person(matting, np.zeros((SIZE, SIZE, 3), np.uint8), face((100, 110), 60))
    assert looks[0] == (SIZE, SIZE, 3) and 100 <= looks[1][0] <= 130
    np.testing.assert_allclose(matte[90:120, 80:120], 0.8)
    np.testing.assert_allclose(matte[[0, -1]], 0.2)
    assert np.abs(np.diff(matte, axis=0)).max() < 0.1, "the two looks blend"


def test_a_head_at_the_border_of_the_image_is_looked_at():
    matte = find_person(
        lambda rgb: np.ones(rgb.shape[:2], np.float32), np.zeros((64, 64, 3), np.uint8), face((5, 3), 40)
    )
    np.testing.assert_array_equal(matte, 1)


def test_background_keeps_clear_of_the_person(disc):
    matte = disc(SIZE, (100, 100), 40.0)
    background = surely_background(matte, 10.0)
    assert background[100, 155] and not background[100, 145] and not background[100, 100]
