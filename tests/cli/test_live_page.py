"""Controls of the page of `partnerface live`, on a server without a browser."""

from __future__ import annotations

import math
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest

from partnerface_ns.cli.live_page import LivePage, MouseOrbit
from partnerface_ns.cli.page_server import PageServer, free_address
from partnerface_ns.driving.live import Pace
from partnerface_ns.driving.plan import Plan
from partnerface_ns.driving.playback import Playback, View


def plan_of(seconds: float) -> Plan:
    plan = MagicMock(spec=Plan, fps=10.0)
    plan.__len__.return_value = round(10 * seconds)
    return plan


@pytest.fixture
def server():
    server = PageServer(*free_address("127.0.0.1", 0))
    yield server
    server.stop()


@pytest.fixture
def made():
    return []


@pytest.fixture
def page(server, made):
    def make(name):
        made.append(name)
        return plan_of(3)

    return LivePage(server, Playback(plan_of(5), View(100), lambda: 7.0), {"me.mp4": plan_of(5), "talk": None}, make)


def person(control, value=None):
    """A person on a page gives a control a value, or presses a button."""
    if value is not None:
        control._impl.value = value
    for callback in control._impl.update_cb:
        callback(SimpleNamespace(client="page"))


def test_motion_time_and_pause(page, made):
    playback = page._playback
    assert page.time.value == 0 and page.motion.options == ("me.mp4", "talk")
    person(page.time, 2.0)
    assert playback.current_frame().frame == 20
    person(page.playing, False)
    assert playback.current_frame().paused
    first = page.time
    for _ in range(2):
        person(page.motion, "talk")
        person(page.motion, "me.mp4")
    assert made == ["talk"], "made once"
    person(page.motion, "talk")
    assert len(playback.plan) == 30 and not playback.current_frame().paused and page.playing.value
    assert page.time is not first and page.time._impl.parent_container_id == first._impl.parent_container_id


def test_size_and_view(page):
    assert page.size.value == "100" and set(page.size.options) >= {"128", "256", "512"}
    person(page.size, "256")
    person(page.turn, 30)
    person(page.tilt, -10)
    view = page._playback.view
    assert view == View(256, math.radians(30), math.radians(-10))
    person(page.front)
    assert page._playback.view == View(256) and (page.turn.value, page.tilt.value) == (0, 0)


def test_changes_by_the_program_are_left_out(page):
    page.time._impl.value = 4.0
    for callback in page.time._impl.update_cb:
        callback(SimpleNamespace(client=None))
    assert page._playback.current_frame().frame == 0


def test_the_time_slider_follows_but_not_while_a_person_moves_it(page, server, monkeypatch):
    shown = []
    monkeypatch.setattr(server, "show", shown.append)
    page._playback.seek(3.0)
    image = np.zeros((4, 4, 3), np.uint8)
    assert page.show(image, Pace(9.0, 0.1)) and page.time.value == 3.0 and len(shown) == 1
    person(page.time, 1.0)
    page._playback.seek(4.0)
    page.show(image, Pace(9.0, 0.1))
    assert page.time.value == 1.0


def test_dragging_the_image_turns_the_view(page):
    camera = SimpleNamespace(position=np.array([3.0, 0.0, 1.0]), look_at=np.zeros(3))
    page._on_camera(4, camera)
    assert page._playback.view == View(100), "a page that opens"
    camera.position = np.array([3 * math.cos(0.3), 3 * math.sin(0.3), 1.0])
    page._on_camera(4, camera)
    assert page._playback.view.turn == pytest.approx(0.3) and page.turn.value == 17
    camera.position = np.array([6.0, 0.0, 2.0]) + np.ones(3)
    camera.look_at = np.ones(3)
    page._on_camera(4, camera)
    assert page._playback.view.turn == pytest.approx(0.0, abs=1e-9) and page.tilt.value == 0


@pytest.mark.parametrize("position", [[math.nan, 0, 1], [math.inf, 0, 0], [0, 0, 0], [1, 2], ["a", 0, 0], [None] * 3])
def test_a_camera_that_cannot_be_turns_nothing(position):
    orbit = MouseOrbit()
    assert orbit.move(0, [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]) == (0, 0)
    assert orbit.move(0, position, [0.0, 0.0, 0.0]) == (0, 0)


def test_the_mouse_turns_over_the_back_without_a_jump():
    orbit, near = MouseOrbit(), [(math.cos(a), math.sin(a), 0.0) for a in (math.pi - 0.1, -math.pi + 0.1)]
    orbit.move(0, near[0], (0, 0, 0))
    assert orbit.move(0, near[1], (0, 0, 0)) == pytest.approx((0.2, 0.0))
