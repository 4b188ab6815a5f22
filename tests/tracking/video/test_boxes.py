"""Overlap of boxes, and one box for each face."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.tracking.video.boxes import containment, overlap, suppress_duplicates

BIG, SMALL = np.array([100.0, 80.0, 60.0, 60.0]), np.array([300.0, 90.0, 25.0, 25.0])


STEP = np.array([1.0, 0.0, 0.0, 0.0])


def test_overlap():
    assert overlap(BIG, BIG) == pytest.approx(1)
    assert overlap(BIG, BIG + 30 * STEP) == pytest.approx(1 / 3)
    assert overlap(BIG, SMALL) == 0


def test_containment_of_nested_boxes():
    inner = np.array([110.0, 90.0, 20.0, 20.0])
    assert containment(BIG, inner) == containment(inner, BIG) == pytest.approx(1)
    assert containment(BIG, BIG + 30 * STEP) == pytest.approx(0.5)
    assert containment(BIG, SMALL) == 0


@pytest.mark.parametrize("scores, kept", [((0.6, 0.9), 1), ((0.9, 0.6), 0)])
def test_of_two_nested_boxes_the_one_with_the_higher_score_is_kept(scores, kept):
    """A detector's two looks may give a face's box and one of twice its size around it."""
    boxes = [np.array([221.0, 32.0, 93.0, 93.0]), np.array([239.0, 51.0, 46.0, 46.0])]
    merged = suppress_duplicates([*zip(scores, boxes, strict=True), (0.7, SMALL + 200 * STEP)])
    assert len(merged) == 2
    assert any((box == boxes[kept]).all() for box in merged) and not any(
        (box == boxes[1 - kept]).all() for box in merged
    )


def test_faces_side_by_side_are_two():
    assert len(suppress_duplicates([(0.9, BIG), (0.8, BIG + 40 * STEP)])) == 2
