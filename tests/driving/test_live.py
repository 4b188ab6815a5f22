"""A plan played in real time."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.driving import live
from partnerface_ns.driving.live import padded, play
from partnerface_ns.driving.motion import motion_of_capture
from partnerface_ns.driving.plan import PlanConfig, Shown, make_plan


class Clock:
    """Time that passes only while something is rendered or slept."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += max(seconds, 1e-4)


@pytest.mark.parametrize(
    ("render_seconds", "moments", "fps", "latency"),
    [(0.01, [0, 1, 2, 3, 4, 5, 6, 7, 0, 1], 25.0, 0.01), (0.113, [0, 2, 5, 0, 3, 6, 0, 3, 6, 1], 8.85, 0.13)],
)
def test_what_there_is_no_time_for_is_skipped(
    player, capture, tiny_head, monkeypatch, render_seconds, moments, fps, latency
):
    plan = make_plan(player, motion_of_capture(capture, tiny_head), PlanConfig())
    clock, played, paces = Clock(), [], []

    def render(player, plan, index):
        clock.pass_(render_seconds)
        played.append(index)
        return Shown(np.full((4, 4, 3), index, np.uint8), np.zeros((4, 4), np.uint8))

    def show(picture, pace):
        paces.append(pace)
        return len(played) < 10

    monkeypatch.setattr(live, "shown", render)
    play(player, plan, show, clock, clock.pass_)
    assert played == moments
    assert paces[-1].fps == pytest.approx(fps, rel=0.15)
    assert paces[-1].latency == pytest.approx(latency, abs=0.015)
    assert "pictures a second" in str(paces[-1])


def test_a_picture_is_padded_to_the_pages_shape():
    picture = np.full((10, 20, 3), 9, np.uint8)
    assert padded(picture, 1.0).shape == (20, 20, 3) and padded(picture, 4.0).shape == (10, 40, 3)
    assert padded(picture, 1.0)[5:15].min() == 9 and padded(picture, 1.0)[:5].max() == 0
