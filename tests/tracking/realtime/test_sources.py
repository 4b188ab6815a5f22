"""Frames that arrive in real time."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.common.errors import InputError
from partnerface_ns.tracking.realtime import sources
from partnerface_ns.tracking.realtime.sources import Camera, play_video


class Clock:
    """Time that passes only while somebody sleeps or works."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        assert seconds >= 0, "time.sleep takes no less"
        self.now += seconds


def test_a_video_arrives_at_its_own_pace(film, tmp_path):
    video = film(tmp_path / "film.mp4", [np.full((64, 64, 3), 10 * i, np.uint8) for i in range(12)], fps=25)
    clock, arrivals = Clock(), []
    for frame in play_video(video, clock, clock.pass_):
        arrivals.append((frame.index, frame.time, clock.now))
        if frame.index == 4:
            clock.pass_(0.1)  # the frames 5 and 6 are due before they are asked for
    indices, times, seen = map(np.array, zip(*arrivals, strict=True))
    assert indices.tolist() == list(range(12))
    assert np.allclose(times - times[0], np.arange(12) / 25), "a frame arrives at its time, whoever is late"
    late = seen - times
    assert np.allclose(late[[5, 6]], [0.06, 0.02]) and np.allclose(late[[0, 1, 2, 3, 4, 7, 11]], 0)


class FakeCapture:
    """A camera of OpenCV that delivers some blue images and then fails."""

    num_images = 3

    def __init__(self, index: int) -> None:
        self.left = self.num_images + 1

    def isOpened(self) -> bool:
        return True

    def read(self):
        self.left -= 1
        return (True, np.full((4, 6, 3), (255, 0, 0), np.uint8)) if self.left >= 0 else (False, None)


def test_a_camera_yields_rgb_until_it_fails(monkeypatch):
    cv2 = sources.require("cv2")
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    frames = []
    with pytest.raises(InputError, match="no more images"):
        for frame in Camera(0):
            frames.append(frame)
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert (frames[0].rgb == [0, 0, 255]).all()
    assert frames[0].time <= frames[1].time <= frames[2].time


@pytest.mark.parametrize("index", [-1, 63])
def test_a_camera_that_does_not_open_is_named(index, capfd):
    with pytest.raises(InputError) as error:
        Camera(index)
    assert f"--camera {index}: the camera does not open" in str(error.value)
    assert "another index" in str(error.value)
    assert capfd.readouterr().err == "", "OpenCV's own warnings are silent"
