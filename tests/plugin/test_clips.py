"""Clips of a viewer page."""

from __future__ import annotations

import threading
import time

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.viewer.utils import CameraState

from partnerface_ns.plugin import clips
from partnerface_ns.plugin.clips import ClipRecorder, Look, Note

STATE = CameraState(0.5, 1.5, torch.eye(4)[:3], CameraType.PERSPECTIVE)


class Source:
    """A page that shows one frame after the other, each rendered slowly."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.began, self.seconds, self.noted, self.rendered = time.monotonic(), seconds, 0, []
        self.reason: str | None = None
        self.stands = False

    def note(self, now):
        self.noted += 1
        return Note(STATE, Look(timestep=0 if self.stands else self.noted))

    def image(self, note):
        time.sleep(self.seconds)
        self.rendered.append(note.look.timestep)
        return np.full((32, 48, 3), note.look.timestep * 5 % 256, np.uint8)

    def waits_for(self):
        return self.reason


def record(source: Source, folder, num: int, during=lambda recorder: None) -> list[tuple[str, bool]]:
    told = []
    recorder = ClipRecorder(source, lambda line, going_on: told.append((line, going_on)))
    recorder.start(folder)
    while source.noted < num:
        time.sleep(0.005)
    recorder.stop()
    during(recorder)
    recorder.join()
    assert not recorder.busy
    return told


def test_every_frame_is_rendered_once_however_slow(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "FPS", 100.0)
    source = Source(seconds=0.03)
    told = record(source, tmp_path, 12)
    num = source.noted
    assert source.rendered == list(range(1, num + 1)), "all of them differ, and none is missing"
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "clip_000.mp4"))[0] == num
    assert told[0] == (f"Rendering frame 1 of {num}", True) and f"frame {num} of {num}, " in told[-2][0]
    assert told[-1] == (f"Written to {tmp_path / 'clip_000.mp4'}", False)
    record(Source(), tmp_path, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip_000.mp4", "clip_001.mp4"]


def test_a_thread_that_wakes_up_late_notes_what_it_missed(monkeypatch):
    source = Source()
    recorder = ClipRecorder(source, lambda *_: None)
    now = [10.0]
    monkeypatch.setattr(clips.time, "monotonic", lambda: now[0])
    waited = []

    class Stopped:
        def wait(self, seconds):
            waited.append(seconds)
            now[0] += 0.5 if len(waited) == 2 else seconds
            return now[0] > 11.0

    recorder._stopped = Stopped()
    assert len(list(recorder._notes())) == 26, "one second and its first frame, without a gap"


def test_what_stands_still_is_rendered_once(tmp_path):
    source = Source()
    source.stands = True
    record(source, tmp_path, 5)
    assert source.rendered == [0]
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "clip_000.mp4"))[0] == source.noted


def test_a_recording_ends_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "MOST_FRAMES", 4)
    source = Source()
    recorder = ClipRecorder(source, lambda *_: None)
    recorder.start(tmp_path)
    recorder.join()
    assert source.rendered == [1, 2, 3, 4]


def test_a_clip_that_is_finished_early_holds_what_was_rendered(tmp_path):
    source = Source(seconds=0.05)

    def during(recorder):
        while len(source.rendered) < 2:
            time.sleep(0.005)
        recorder.finish()

    told = record(source, tmp_path, 12, during)
    frames = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "clip_000.mp4"))[0]
    assert frames == len(source.rendered) < source.noted and told[-1][0].startswith("Written")


def test_a_clip_waits_for_training_and_can_be_given_up(tmp_path):
    source = Source()
    source.reason = "The clip is rendered when training is paused or done."
    told = record(source, tmp_path, 2, lambda recorder: threading.Timer(0.2, recorder.finish).start())
    assert told[0] == (source.reason, True) and told[-1][0].startswith("There is no clip")
    assert not list(tmp_path.iterdir()) and not source.rendered


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    told = record(Source(), tmp_path / "nowhere", 2)
    assert told[-1][0].startswith("The clip was not written") and not told[-1][1]


@pytest.mark.parametrize("change", ["look", "fov", "c2w", None])
def test_notes_are_the_same_only_with_one_look_and_one_camera(change):
    moved = {"fov": 0.6, "c2w": torch.eye(4)[:3] + 0.1}
    camera = CameraState(**vars(STATE) | ({change: moved[change]} if change in moved else {}))
    other = Note(camera, Look(part=1) if change == "look" else Look())
    assert other.same_as(Note(STATE, Look())) == (change is None)
