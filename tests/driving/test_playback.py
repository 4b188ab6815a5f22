"""Position in a plan, and the view of it."""

from __future__ import annotations

import math
from dataclasses import replace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from partnerface_ns.driving.capture_motion import motion_of_capture
from partnerface_ns.driving.plan import Plan, PlanConfig, make_plan, render_frame
from partnerface_ns.driving.playback import LARGEST_TILT, LARGEST_TURN, Playback, View, render_timed_frame
from partnerface_ns.driving.player import scale_camera


def plan_of(frames: int, fps: float = 10.0) -> Plan:
    plan = MagicMock(spec=Plan, fps=fps)
    plan.__len__.return_value = frames
    return plan


@pytest.fixture
def now():
    return [50.0]


@pytest.fixture
def playback(now):
    return Playback(plan_of(30), View(64), lambda: now[0])


def test_time_passes_unless_the_playback_is_paused(playback, now):
    now[0] += 1.23
    shown = playback.current_frame()
    assert shown.frame == 12 and shown.time == pytest.approx(51.2)
    playback.pause(True)
    now[0] += 100
    assert playback.current_frame().frame == 12 and playback.current_frame().looks_like(shown)
    playback.seek(2.5)
    assert playback.current_frame().frame == 25 and playback.current_frame().paused, "scrubbed while paused"
    playback.restart()
    assert playback.current_frame().frame == 25, "a page that opens does not end the pause"
    playback.pause(False)
    now[0] += 0.31
    assert playback.current_frame().frame == 28
    now[0] += 0.4
    assert playback.current_frame().frame == 32, "the plan repeats"
    playback.restart()
    assert playback.current_frame().frame == 0


def test_another_motion_starts_at_its_beginning_with_the_same_view(playback, now):
    before = playback.current_frame()
    playback.view = replace(playback.view, size=128, turn=0.2)
    assert not playback.current_frame().looks_like(before), "the same frame from another view"
    playback.pause(True)
    playback.play(plan_of(5, 20.0))
    assert not playback.current_frame().looks_like(before) and len(playback.plan) == 5
    now[0] += 0.1
    assert playback.current_frame().frame == 2 and playback.view == View(128, 0.2)


def test_the_camera_turns_around_the_face_and_keeps_its_distance(camera):
    center = np.array([0.0, -0.05, 0.0])
    turned, tilted = View(16, turn=0.5).move(camera, center), View(16, tilt=0.3).move(camera, center)
    np.testing.assert_allclose(turned.T_world_camera[:3, 3] - center, [0.8 * math.sin(0.5), 0, 0.8 * math.cos(0.5)])
    np.testing.assert_allclose(tilted.T_world_camera[:3, 3] - center, [0, 0.8 * math.sin(0.3), 0.8 * math.cos(0.3)])
    for moved in (turned, tilted, View(16, 0.5, 0.3).move(camera, center)):
        T = moved.T_world_camera
        np.testing.assert_allclose(T[:3, 3] - 0.8 * T[:3, 2], center, atol=1e-12)  # it still looks at the centre
    assert View(16).turned(9.0, -9.0) == View(16, LARGEST_TURN, -LARGEST_TILT)
    assert View(40).move(camera, center).width == 40


def test_a_frame_is_rendered_from_its_view(player, capture, tiny_head, now):
    plan = make_plan(player, motion_of_capture(capture, tiny_head), PlanConfig())
    playback = Playback(plan, View(16), lambda: now[0])
    playback.seek((len(plan) + 2) / plan.fps)
    same = render_timed_frame(player, playback.current_frame()).rgb
    np.testing.assert_array_equal(same, render_frame(player, plan, 2).rgb)
    playback.view = View(24, turn=0.6)
    turned = render_timed_frame(player, playback.current_frame()).rgb
    alone = render_frame(player, plan, 2, scale_camera(plan.cameras[2], 24)).rgb
    assert turned.shape == alone.shape == (24, 24, 3) and not np.array_equal(turned, alone)
    verts = player.person.pose(player.neutral).verts
    assert torch.from_numpy(player.face_center).sub(verts.mean(0)).norm() < 0.2
