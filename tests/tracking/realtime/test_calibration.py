"""The person measured in the first seconds, and the head states of later frames, against known ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tracking.realtime.conftest import FOCAL, SIDE

from partnerface_ns.flame.state import HeadState
from partnerface_ns.tracking.fit.landmark_weights import head_rotation
from partnerface_ns.tracking.realtime.calibration import Calibration, calibrate
from partnerface_ns.tracking.realtime.frame_fit import FrameFit

CENTRE = np.array([SIDE / 2, SIDE / 2, 0.0])


def from_centre(landmarks: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(landmarks - CENTRE).float()


def turns(states: HeadState) -> Rotation:
    return Rotation.from_matrix(head_rotation(states.rotation, states.neck).numpy())


@pytest.fixture(scope="module")
def calibration(energy, known_person) -> Calibration:
    return calibrate(energy, from_centre(known_person.landmarks(known_person.still(12))), 1.6 * SIDE)


def test_the_landmarks_of_the_measured_person_are_the_true_ones(calibration, known_person):
    states = known_person.still(12)
    true = from_centre(known_person.landmarks(states, noise=0.0))[..., :2].mean(0)
    measured = calibration.person.pixels(HeadState.stack([calibration.neutral]))[0]
    shift = (true - measured).mean(0)
    assert calibration.error < 0.5
    assert (true - measured - shift).norm(dim=-1).median() < 0.6, "up to the head's position, which trembles"
    assert calibration.person.focal == pytest.approx(FOCAL, rel=0.15), "a face determines it only roughly"


def test_a_blink_and_a_word_do_not_change_the_neutral_face(energy, known_person, calibration):
    states = known_person.still(12)
    names = known_person.head.model.expression_names
    states.expression[4:6, [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]] = 1.0
    states.jaw[8:10, 0] = 0.25
    disturbed = calibrate(energy, from_centre(known_person.landmarks(states)), 1.6 * SIDE)
    assert (disturbed.neutral.expression - calibration.neutral.expression).abs().max() < 0.15
    assert abs(float(disturbed.neutral.jaw[0] - calibration.neutral.jaw[0])) < 0.03


def test_the_expected_focal_length_is_corrected(energy, known_person):
    """A head seen from near has a perspective that determines the focal length."""
    states = known_person.still(12)
    states.translation[:, 2] += 0.35
    far = calibrate(energy, from_centre(known_person.landmarks(states, noise=0.05)), 1.2 * FOCAL)
    assert far.person.focal < 1.15 * FOCAL


@torch.no_grad()
def test_frames_are_followed(energy, known_person, calibration):
    states = known_person.moving(60)
    detected = from_centre(known_person.landmarks(states))
    fit = FrameFit(energy, calibration.person, calibration.neutral)
    followed = [fit.start(detected[0])]
    for points in detected[1:]:
        followed.append(fit.follow(followed[-1], points, 0.04))
    result = HeadState.stack(followed)
    error = turns(result) * turns(states).inv()
    assert np.degrees((error * error.mean().inv()).magnitude()).max() < 3.0, "up to the pitch of the measured head"
    assert max(fit.error(state, points) for state, points in zip(followed, detected, strict=True)) < 1.0
    assert np.corrcoef(result.jaw[:, 0], states.jaw[:, 0])[0, 1] > 0.95
    assert np.corrcoef(result.eyes[:, 1], states.eyes[:, 1])[0, 1] > 0.95
    smile = known_person.head.model.expression_names.index("mouthSmileLeft")
    assert np.corrcoef(result.expression[:, smile], states.expression[:, smile])[0, 1] > 0.9


@torch.no_grad()
def test_more_frames_between_two_states_allow_larger_changes(energy, known_person, calibration):
    states = known_person.moving(20)
    detected = from_centre(known_person.landmarks(states, noise=0.0))
    fit = FrameFit(energy, calibration.person, calibration.neutral)
    start = fit.start(detected[0])
    near, far = (fit.error(fit.follow(start, detected[12], seconds), detected[12]) for seconds in (0.004, 0.5))
    assert far < near and far < 1.0
