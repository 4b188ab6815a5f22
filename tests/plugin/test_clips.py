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
from partnerface_ns.plugin.clips import ClipFrame, ClipRecorder
from partnerface_ns.plugin.page_settings import PageSettings

STATE = CameraState(0.5, 1.5, torch.eye(4)[:3], CameraType.PERSPECTIVE)


class Source:
    """A page that shows one frame after the other. Each takes a time to render."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.recorded, self.rendered = seconds, 0, []
        self.reason: str | None = None
        self.static = False

    def snapshot(self, now):
        self.recorded += 1
        return ClipFrame(STATE, PageSettings(timestep=0 if self.static else self.recorded))

    def render(self, frame):
        time.sleep(self.seconds)
        self.rendered.append(frame.settings.timestep)
        return np.full((32, 48, 3), frame.settings.timestep * 5 % 256, np.uint8)

    def waiting_reason(self):
        return self.reason


def record(source: Source, folder, num: int, during=lambda recorder: None) -> list[tuple[str, bool]]:
    reports = []
    recorder = ClipRecorder(source, lambda line, busy: reports.append((line, busy)))
    recorder.start(folder)
    while source.recorded < num:
        time.sleep(0.005)
    recorder.stop()
    during(recorder)
    recorder.join()
    assert not recorder.busy
    return reports


def test_every_frame_is_rendered_once_however_slow(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "FPS", 100.0)
    source = Source(seconds=0.03)
    reports = record(source, tmp_path, 12)
    num = source.recorded
    assert source.rendered == list(range(1, num + 1)), "all of them differ, and none is missing"
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "clip_000.mp4"))[0] == num
    assert reports[0] == (f"Rendering frame 1 of {num}", True) and f"frame {num} of {num}, " in reports[-2][0]
    assert reports[-1] == (f"Written to {tmp_path / 'clip_000.mp4'}", False)
    record(Source(), tmp_path, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip_000.mp4", "clip_001.mp4"]


def test_a_thread_that_wakes_up_late_adds_the_frames_it_missed(monkeypatch):
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
    assert len(list(recorder._record())) == 26, "one second and its first frame, without a gap"


def test_a_page_that_does_not_change_is_rendered_once(tmp_path):
    source = Source()
    source.static = True
    record(source, tmp_path, 5)
    assert source.rendered == [0]
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "clip_000.mp4"))[0] == source.recorded


def test_a_recording_ends_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "MAX_FRAMES", 4)
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

    reports = record(source, tmp_path, 12, during)
    frames = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "clip_000.mp4"))[0]
    assert frames == len(source.rendered) < source.recorded and reports[-1][0].startswith("Written")


def test_a_clip_waits_for_training_and_can_be_finished_meanwhile(tmp_path):
    source = Source()
    source.reason = "The clip is rendered when training is paused or done."
    reports = record(source, tmp_path, 2, lambda recorder: threading.Timer(0.2, recorder.finish).start())
    assert reports[0] == (source.reason, True) and reports[-1][0].startswith("There is no clip")
    assert not list(tmp_path.iterdir()) and not source.rendered


def test_a_folder_that_is_not_writable_is_reported(tmp_path):
    reports = record(Source(), tmp_path / "nowhere", 2)
    assert reports[-1][0].startswith("The clip was not written") and not reports[-1][1]


@pytest.mark.parametrize("change", ["settings", "fov", "c2w", None])
def test_frames_look_alike_only_with_the_same_settings_and_camera(change):
    moved = {"fov": 0.6, "c2w": torch.eye(4)[:3] + 0.1}
    camera = CameraState(**vars(STATE) | ({change: moved[change]} if change in moved else {}))
    other = ClipFrame(camera, PageSettings(part=1) if change == "settings" else PageSettings())
    assert other.looks_like(ClipFrame(STATE, PageSettings())) == (change is None)
