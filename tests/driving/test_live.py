"""A plan played in real time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from partnerface_ns.driving import playback as playback_module
from partnerface_ns.driving.capture_motion import motion_of_capture
from partnerface_ns.driving.live import pad, play, usable_aspect
from partnerface_ns.driving.plan import PlanConfig, RenderedFrame, make_plan
from partnerface_ns.driving.playback import Playback, View


class Clock:
    """Time that passes while something is rendered or slept, and a little whenever somebody looks at it."""

    def __init__(self, reading: float = 1e-4) -> None:
        self.now, self.reading = 100.0, reading

    def __call__(self) -> float:
        self.now += self.reading
        return self.now

    def pass_(self, seconds: float) -> None:
        assert seconds >= 0, "time.sleep takes no less"
        self.now += seconds


@pytest.mark.parametrize(
    ("render_seconds", "frames", "fps", "latency"),
    [(0.01, [0, 1, 2, 3, 4, 5, 6, 7, 0, 1], 25.0, 0.01), (0.113, [0, 2, 5, 0, 3, 6, 0, 3, 6, 1], 8.85, 0.13)],
)
def test_late_frames_are_skipped(player, capture, tiny_head, monkeypatch, render_seconds, frames, fps, latency):
    plan = make_plan(player, motion_of_capture(capture, tiny_head), PlanConfig())
    clock, played, paces = Clock(), [], []

    def render(player, plan, index, camera):
        clock.pass_(render_seconds)
        played.append(index)
        return RenderedFrame(np.full((4, 4, 3), index, np.uint8), np.zeros((4, 4), np.uint8))

    def show(image, pace):
        paces.append(pace)
        return len(paces) < 10

    monkeypatch.setattr(playback_module, "render_frame", render)
    play(player, Playback(plan, View(16), clock), show, sleep=clock.pass_)
    assert played == [0, *frames], "the first is drawn before time counts"
    assert paces[-1].fps == pytest.approx(fps, rel=0.15)
    assert paces[-1].latency == pytest.approx(latency, abs=0.015)
    assert "images/s" in str(paces[-1])


def test_a_late_clock_never_sleeps_less_than_nothing(player, capture, tiny_head, monkeypatch):
    plan = make_plan(player, motion_of_capture(capture, tiny_head), PlanConfig())
    clock, times = Clock(reading=0.7 / plan.fps), []
    monkeypatch.setattr(
        playback_module,
        "render_frame",
        lambda *_: RenderedFrame(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)),
    )

    def show(image, pace):
        times.append(clock.now)
        return len(times) < 20

    play(player, Playback(plan, View(16), clock), show, sleep=clock.pass_)
    assert len(times) == 20


def test_without_a_page_nothing_is_rendered_and_the_plan_starts_again(player, capture, tiny_head, monkeypatch):
    plan = make_plan(player, motion_of_capture(capture, tiny_head), PlanConfig())
    clock, played, watched = Clock(), [], iter([True, False, False, True, False, False])

    def render(player, plan, index, camera):
        clock.pass_(0.04)
        played.append(index)
        return RenderedFrame(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))

    def wait() -> bool:
        waited = next(watched, False)
        if waited:
            clock.pass_(100)
        return waited

    paces = []
    monkeypatch.setattr(playback_module, "render_frame", render)
    show = lambda _, pace: paces.append(pace) or len(paces) < 6  # noqa: E731
    play(player, Playback(plan, View(16), clock), show, wait, clock.pass_)
    assert played[:2] == [0, 0] and played[4] == 0
    assert max(pace.latency for pace in paces) < 1, "the time without a page is no delay"


def test_an_image_is_padded_to_the_pages_shape():
    image = np.full((10, 20, 3), 9, np.uint8)
    assert pad(image, 1.0).shape == (20, 20, 3) and pad(image, 4.0).shape == (10, 40, 3)
    assert pad(image, 1.0)[5:15].min() == 9 and pad(image, 1.0)[:5].max() == 0
    assert pad(image, None) is image


@pytest.mark.parametrize("aspect", [0, -1, math.nan, math.inf, -math.inf, "wide", None, [1.5]])
def test_an_aspect_that_cannot_be_counts_as_not_said(aspect):
    assert usable_aspect(aspect) is None


@pytest.mark.parametrize("aspect", [1e-300, 1e-4, 0.5, 1.5, 1e9, 10**400])
def test_memory_is_bounded_whatever_a_page_says(aspect):
    image = np.zeros((100, 200, 3), np.uint8)
    assert pad(image, usable_aspect(aspect)).size <= 20 * image.size
