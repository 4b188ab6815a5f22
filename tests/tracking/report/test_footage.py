"""Warnings about the footage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from partnerface_ns.tracking.report.footage import Footage, footage_warnings, left_out_warnings, name_frames
from partnerface_ns.tracking.video.left_out import COVERED, OTHER_PERSON

GOOD = Footage(
    num_frames=900,
    yaw=np.linspace(-40, 40, 900),
    tilt=np.linspace(-20, 20, 900),
    jaw=np.linspace(0, 25, 900),
    face_height=300.0,
    burnt=0.01,
    brightness=130.0,
    num_others=0,
    head_cut=0.02,
)


def test_good_footage_has_no_warning():
    assert footage_warnings(GOOD) == []


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_frames": 100}, "Only 100 frames"),
        ({"yaw": np.linspace(-3, 30, 900)}, "turns 2 degrees to the right and 29 to the left"),
        ({"tilt": np.full(900, -88.0)}, "tilted by -88 degrees"),
        ({"jaw": np.linspace(0, 3, 900)}, "mouth opens 2.9 degrees"),
        ({"face_height": 80.0}, "face is 80 pixels high"),
        ({"burnt": 0.3}, "30% of the face is burnt out"),
        ({"brightness": 20.0}, "dark (brightness 20 of 255)"),
        ({"num_others": 2}, "2 other face(s)"),
        ({"head_cut": 0.3}, "head is cut off in 30% of the frames"),
    ],
)
def test_poor_footage_is_reported_with_its_figure(change, message):
    warnings = footage_warnings(replace(GOOD, **change))
    assert len(warnings) == 1 and message in warnings[0]


def test_frames_of_another_person_and_covered_faces_are_named():
    reasons = {
        **dict.fromkeys(range(34, 60), OTHER_PERSON),
        3: COVERED,
        7: COVERED,
        8: COVERED,
        9: COVERED,
        1: "blurred",
    }
    other, covered = left_out_warnings(reasons)
    assert "Another person is seen in frames 34 to 59;" in other
    assert "in front of the face in frames 3, 7 to 9;" in covered
    assert left_out_warnings({1: "blurred"}) == []


def test_a_warning_lists_only_some_of_many_runs():
    assert name_frames([5]) == "frame 5"
    assert name_frames(range(0, 40, 2)) == "frames 0, 2, 4, 6, 8, 10, 12, 14 and 12 more places"
