"""Frames that are left out, and their reasons."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.common.errors import InputError
from partnerface_ns.tracking.video import left_out
from partnerface_ns.tracking.video.crop import CropPath
from partnerface_ns.tracking.video.face_pass import FaceTrack
from partnerface_ns.tracking.video.face_texture import face_grid
from partnerface_ns.tracking.video.image_pass import ImageMeasurements
from partnerface_ns.tracking.video.left_out import COVERED, OTHER_PERSON


def measurements(num: int, **changes: np.ndarray) -> tuple[FaceTrack, ImageMeasurements]:
    """The results of both passes over a good video."""
    landmarks = np.zeros((num, 478, 3), dtype=np.float32)
    landmarks[:, 152, 1] = 100
    arrays = {
        "disagreement": np.full(num, 1.0),
        "sharpness": np.full(num, 0.5),
        "brightness": np.zeros(num),
        "burnt": np.zeros(num),
        "texture": np.zeros((num, len(face_grid().points), 3), dtype=np.uint8),
    }
    crop = CropPath(100.0, np.zeros((num, 2)), True, np.zeros(num, dtype=bool))
    images = ImageMeasurements(crop, landmarks, **arrays | changes)
    return FaceTrack(np.ones((num, 4)), np.arange(num) / 25, (100, 100), 0, np.full((num, 4), np.nan)), images


def test_blurred_and_unsure_frames_are_left_out():
    num = 12
    disagreement, sharpness = np.full(num, 1.0), np.full(num, 0.5)
    disagreement[2], sharpness[5] = 9.0, 0.02
    reasons = left_out.reasons_to_leave_out(*measurements(num, disagreement=disagreement, sharpness=sharpness))
    assert set(reasons) == {2, 5} and "unsure" in reasons[2] and reasons[5] == "blurred"


def test_a_video_without_any_landmarks_has_no_typical_sharpness():
    """numpy would warn about the median of no numbers, and warnings are errors here."""
    faces, images = measurements(12, sharpness=np.full(12, np.nan))
    images.landmarks[:] = np.nan
    assert left_out.reasons_to_leave_out(faces, images) == dict.fromkeys(range(12), "no landmarks")


def test_another_person_is_distinguished_from_a_covered_face(monkeypatch):
    """Other people are removed first: a face is covered if the same person shows it uncovered elsewhere."""
    monkeypatch.setattr(left_out, "compare_people", lambda looks, times: (times > 0.59, times < 0.05))
    monkeypatch.setattr(left_out, "find_covered", lambda texture, facing: np.arange(len(texture)) >= len(texture) - 2)
    reasons = left_out.reasons_to_leave_out(*measurements(20))
    assert reasons == dict.fromkeys((0, 1, 13, 14), COVERED) | dict.fromkeys(range(15, 20), OTHER_PERSON)


def test_frames_of_other_people_do_not_count_towards_the_total(tmp_path):
    others = dict.fromkeys(range(60), OTHER_PERSON)
    left_out.require_enough(tmp_path, 100, others)
    with pytest.raises(InputError, match="most frames cannot be tracked"):
        left_out.require_enough(tmp_path, 100, others | dict.fromkeys(range(60, 85), "no face"))
