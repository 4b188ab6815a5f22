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

from partnerface_ns.plugin.animation import Animation, _Playing
from partnerface_ns.plugin.clips import Look, Note


@pytest.fixture
def tracked():
    return []


@pytest.fixture
def animation(tracked):
    return Animation(5, 0, lambda: tracked.append(True), lambda page: page.source)


def switch(element, value):
    element.value, element.page = value, SimpleNamespace()
    element.cb_hook(element)


def test_play_moves_the_frame_slider_until_it_is_switched_off(animation, tracked):
    switch(animation.b_play, True)
    seen, end = set(), time.monotonic() + 10
    while len(seen) < 5 and time.monotonic() < end:
        seen.add(animation.a_frame.value)
        animation.rendered.set()
        time.sleep(0.01)
    switch(animation.b_play, False)
    assert seen == {0, 1, 2, 3, 4} and tracked, "it begins again at the end, and shows the track"


def test_play_runs_once_however_often_it_is_switched(animation):
    before = threading.active_count()
    for _ in range(4):
        switch(animation.b_play, True)
        switch(animation.b_play, False)
    switch(animation.b_play, True)
    animation.rendered.set()
    time.sleep(0.3)
    running = [t for t in threading.enumerate() if getattr(t, "_target", None) == animation._move_slider]
    switch(animation.b_play, False)
    assert len(running) == 1 and threading.active_count() <= before + 1


def test_frames_of_real_time_are_one_after_the_other():
    playing = _Playing(3, 17.03, 40, threading.Event())
    frames = [playing.frame_at(19.0 + k / 25) for k in range(120)]
    assert all((later - before) % 40 == 1 for before, later in itertools.pairwise(frames))


def test_a_hand_on_the_slider_shows_the_track_and_play_goes_on_from_there(animation, tracked):
    animation.a_frame.value, animation.a_frame.page = 3, None
    animation.a_frame.cb_hook(animation.a_frame)
    assert not tracked, "the program moved it"
    animation._playing = _Playing(0, 0.0, 5, threading.Event())
    animation.a_frame.page = SimpleNamespace()
    animation.a_frame.cb_hook(animation.a_frame)
    assert tracked and animation._playing.first == 3
    assert animation.timestep_at(animation._playing.began) == 3


class Page:
    """A page that is recorded, and shows what it is told."""

    def __init__(self):
        self.told, self.source = [], self

    def add_notification(self, title, body, **_):
        self.told.append(body)
        note = SimpleNamespace(body=body, loading=True)
        self.note_shown = note
        return note

    def note(self, now):
        return Note(CameraState(0.5, 1.0, torch.eye(4)[:3], CameraType.PERSPECTIVE), Look())

    def image(self, note):
        return np.zeros((16, 16, 3), np.uint8)

    def waits_for(self):
        return None


@pytest.fixture
def page(animation):
    animation.d_finish.gui_handle = SimpleNamespace(visible=False)
    return Page()


def tick(element, value, page):
    element.value, element.page = value, page
    element.cb_hook(element)


def test_a_clip_is_written_into_the_run(animation, page, tmp_path):
    animation.use_folder(tmp_path)
    tick(animation.c_record, True, page)
    time.sleep(0.2)
    tick(animation.c_record, True, page)
    assert "before is still" in page.told[-1], "one clip at a time"
    tick(animation.c_record, False, page)
    animation._recorder.join()
    assert [p.name for p in (tmp_path / "clips").iterdir()] == ["clip_000.mp4"]


def test_a_folder_that_cannot_be_written_is_said_before_the_recording(animation, page, tmp_path):
    tick(animation.c_record, True, page)
    assert "no run folder" in page.told[-1] and not animation.c_record.value
    (tmp_path / "clips").write_text("a file")
    animation.use_folder(tmp_path)
    tick(animation.c_record, True, page)
    assert "cannot be written" in page.told[-1] and animation._recorder is None
