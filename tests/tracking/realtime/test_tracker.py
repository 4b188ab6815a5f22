"""The tracker of a live video: measurement, loss and return of the face."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tracking.realtime.conftest import SIDE

from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.tracking.realtime.sources import CameraFrame
from partnerface_ns.tracking.realtime.tracker import Phase, RealtimeTracker

FPS = 25
BLANK = np.zeros((SIDE, SIDE, 3), np.uint8)


def track(tracker: RealtimeTracker, landmarks: list[np.ndarray | None], first: int = 0):
    """Feed landmarks in place of images."""
    queue = iter(landmarks)
    tracker._detector = lambda rgb: next(queue)
    return [tracker(CameraFrame(first + i, (first + i) / FPS, BLANK)) for i in range(len(landmarks))]


@pytest.fixture
def tracker() -> RealtimeTracker:
    return RealtimeTracker(load_open_head(), lambda rgb: None)


def test_the_person_is_measured_first_then_followed(tracker, known_person):
    landmarks = list(known_person.landmarks(known_person.still(60)))
    tracked = track(tracker, landmarks)
    phases = [frame.phase for frame in tracked]
    measured = phases.index(Phase.TRACKING)
    assert measured == pytest.approx(2 * FPS, abs=2) and set(phases[measured:]) == {Phase.TRACKING}
    progress = [frame.progress for frame in tracked[:measured]]
    assert progress[0] == 0 and progress == sorted(progress)
    assert all(frame.state is None for frame in tracked[:measured])
    assert {"landmarks", "fit"} <= tracked[-1].seconds.keys()


def test_a_face_that_comes_back_is_followed_at_once(tracker, known_person):
    track(tracker, list(known_person.landmarks(known_person.still(55))))
    away = track(tracker, [None] * 20, first=55)
    assert {frame.phase for frame in away} == {Phase.LOST}
    moved = known_person.moving(60)[40:45]  # another face, elsewhere and tilted
    moved.translation.add_(torch.tensor([0.1, 0.03, 0.15]))
    moved.neck[:, 2] += 0.7
    back = track(tracker, list(known_person.landmarks(moved)), first=75)
    assert {frame.phase for frame in back} == {Phase.TRACKING}
    assert tracker._fit is not None
    first = back[0]
    assert first.state is not None and first.landmarks is not None
    detected = first.landmarks - [SIDE / 2, SIDE / 2, 0]
    pixels = tracker.calibration.person.pixels(type(first.state).stack([first.state]))[0]
    assert np.median(np.linalg.norm(pixels.numpy() - detected[:, :2], axis=-1)) < 1.5


def test_landmarks_that_are_no_face_do_not_drive_the_avatar(tracker, known_person):
    landmarks = list(known_person.landmarks(known_person.still(58)))
    track(tracker, landmarks[:55])
    rng = np.random.default_rng(0)
    nonsense = landmarks[55] + 60 * rng.standard_normal(landmarks[55].shape)
    frames = track(tracker, [nonsense, landmarks[56]], first=55)
    assert [frame.phase for frame in frames] == [Phase.LOST, Phase.TRACKING]


def test_a_pause_starts_the_measurement_again(tracker, known_person):
    landmarks = list(known_person.landmarks(known_person.still(55)))
    track(tracker, [*landmarks[:30], *[None] * 20])
    assert tracker.calibration is None
    assert track(tracker, landmarks[30:31], first=50)[0].progress == 0
    again = track(tracker, landmarks, first=51)
    assert again[-1].phase is Phase.TRACKING


def test_a_real_detector_finds_the_face_again(images):
    """Images of a synthetic person, an empty room, and the person again."""
    tracker = RealtimeTracker(load_open_head())
    person = [rgb for rgb, _ in images[:1]] * 8 + [rgb for rgb, _ in images[:8]]
    room = [np.full_like(images[0][0], 90)] * 5
    times = [*np.arange(8) * 0.3, *2.4 + np.arange(8) / FPS]
    tracked = [tracker(CameraFrame(i, float(t), rgb)) for i, (t, rgb) in enumerate(zip(times, person, strict=True))]
    assert tracked[-1].phase is Phase.TRACKING
    away = [tracker(CameraFrame(16 + i, 2.8 + i / FPS, rgb)) for i, rgb in enumerate(room)]
    assert [frame.phase for frame in away] == [Phase.LOST] * 5
    assert tracker(CameraFrame(21, 3.0, person[10])).phase is Phase.TRACKING
