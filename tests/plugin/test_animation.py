"""Frame slider, Play and Record."""

from __future__ import annotations

import itertools
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.viewer.utils import CameraState

from partnerface_ns.plugin.animation import Animation, Playback
from partnerface_ns.plugin.clips import ClipFrame
from partnerface_ns.plugin.page_settings import PageSettings


@pytest.fixture
def tracked():
    return []


@pytest.fixture
def rendered():
    return []


@pytest.fixture
def animation(tracked, rendered):
    return Animation(5, 0, lambda: tracked.append(True), lambda: rendered.append(True), lambda page: page.source)


def switch(element, value):
    element.value, element.page = value, SimpleNamespace()
    element.cb_hook(element)


def test_play_moves_the_frame_slider_until_it_is_switched_off(animation, tracked, rendered):
    switch(animation.play, True)
    seen, end = set(), time.monotonic() + 10
    while len(seen) < 5 and time.monotonic() < end:
        seen.add(animation.frame.value)
        animation.rendered.set()
        time.sleep(0.01)
    switch(animation.play, False)
    assert seen == {0, 1, 2, 3, 4} and tracked and rendered, "it starts again after the last frame, and shows the track"


def test_switching_play_several_times_starts_one_thread(animation):
    before = threading.active_count()
    for _ in range(4):
        switch(animation.play, True)
        switch(animation.play, False)
    switch(animation.play, True)
    animation.rendered.set()
    time.sleep(0.3)
    running = [t for t in threading.enumerate() if getattr(t, "_target", None) == animation._move_slider]
    switch(animation.play, False)
    assert len(running) == 1 and threading.active_count() <= before + 1


def test_no_frame_is_skipped_or_repeated_at_the_frame_rate():
    playing = Playback(40, 3.0, 17.03)
    frames = [playing.frame_at(19.0 + k / 25) for k in range(120)]
    assert all((later - before) % 40 == 1 for before, later in itertools.pairwise(frames))


def test_play_has_a_speed_and_ends_without_a_loop(animation):
    playing = Playback(100, 10.0, 50.0, speed=0.5, loop=False)
    assert [playing.frame_at(50.0 + s) for s in (0, 1, 2, 100)] == [10, 22, 35, 99]
    assert not playing.is_over(57.1) and playing.is_over(57.3)
    playing.change(52.0, speed=2.0, loop=True)
    assert [playing.frame_at(52.0 + s) for s in (0, 1, 2)] == [35, 85, 35] and not playing.is_over(1000.0)

    animation.loop.value, animation.speed.value, animation.frame.value = False, 0.5, 4
    switch(animation.play, True)
    seen, end = set(), time.monotonic() + 10
    while animation.play.value and time.monotonic() < end:
        seen.add(animation.frame.value)
        animation.rendered.set()
        time.sleep(0.01)
    assert min(seen) == 0 and animation.frame.value == 4, "from the first frame to the last"
    assert animation.timestep_at(0.0) == 4


def test_changing_the_speed_continues_from_the_frame_that_is_shown(animation):
    animation._playback = Playback(5, 2.0, time.monotonic() + 100)
    switch(animation.speed, 0.1)
    playback = animation._playback
    assert playback.speed == 0.1 and playback.start <= time.monotonic()


def test_moving_the_slider_shows_the_track_and_play_continues_from_there(animation, tracked):
    animation.frame.value = 3
    animation.frame._handle_event(SimpleNamespace(client=None))
    assert not tracked, "the program moved it"
    animation._playback = Playback(5, 0.0, 0.0)
    switch(animation.frame, 3)
    assert tracked and animation._playback.frame == 3
    assert animation.timestep_at(animation._playback.start) == 3


class Page:
    """A page that can be recorded, and keeps its notifications."""

    def __init__(self):
        self.notifications, self.source = [], self

    def add_notification(self, title, body, **_):
        self.notifications.append(body)
        return SimpleNamespace(body=body, loading=True)

    def snapshot(self, now):
        return ClipFrame(CameraState(0.5, 1.0, torch.eye(4)[:3], CameraType.PERSPECTIVE), PageSettings())

    def render(self, frame):
        return np.zeros((16, 16, 3), np.uint8)

    def waiting_reason(self):
        return None


@pytest.fixture
def page(animation):
    animation.finish.gui_handle = SimpleNamespace(visible=False)
    return Page()


def tick(element, value, page):
    element.value, element.page = value, page
    element.cb_hook(element)


def test_a_clip_is_written_into_the_run(animation, page, tmp_path):
    animation.use_folder(tmp_path)
    tick(animation.record, True, page)
    time.sleep(0.2)
    tick(animation.record, True, page)
    assert "previous clip is still" in page.notifications[-1], "one clip at a time"
    tick(animation.record, False, page)
    animation._recorder.join()
    assert [p.name for p in (tmp_path / "clips").iterdir()] == ["clip_000.mp4"]


def test_a_folder_that_is_not_writable_is_reported_before_the_recording(animation, page, tmp_path):
    tick(animation.record, True, page)
    assert "no run folder" in page.notifications[-1] and not animation.record.value
    (tmp_path / "clips").write_text("a file")
    animation.use_folder(tmp_path)
    tick(animation.record, True, page)
    assert "cannot be written" in page.notifications[-1] and animation._recorder is None
