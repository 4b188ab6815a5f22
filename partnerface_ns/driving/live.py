"""A plan played in real time: what there is no time to render is skipped, and how far behind it runs is measured."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from partnerface_ns.driving.plan import Plan, shown
from partnerface_ns.driving.player import Player

_WINDOW = 2.0
"""Seconds over which figures are averaged."""
_LARGEST_ASPECT = 8.0
"""Width over height, or height over width, of the most elongated page that images are padded for."""


@dataclass(frozen=True)
class Pace:
    """How well rendering keeps up."""

    fps: float
    """Images a second."""
    latency: float
    """Mean seconds from a moment of the source to its finished image."""

    def __str__(self) -> str:
        return f"{self.fps:.1f} images a second, {1000 * self.latency:.0f} ms behind the source"


def play(
    player: Player,
    plan: Plan,
    show: Callable[[UInt8[np.ndarray, "height width 3"], Pace], bool],
    wait: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Play a plan over and over until `show` says no.

    Args:
        player: the avatar.
        plan: what to play.
        show: takes an image (with the source at its left, if the plan has that) and the pace; False ends it.
        wait: waits until somebody watches; whether it had to. The plan then begins anew.
        clock: seconds.
        sleep: waits for so many seconds, zero or more.
    """
    shown(player, plan, 0)  # the first image takes seconds that later ones do not
    began, last = clock(), -1
    recent: deque[tuple[float, float]] = deque()
    while True:
        if wait():
            began, last = clock(), -1
            recent.clear()
        moment = int((clock() - began) * plan.fps)
        if moment == last:
            sleep(max(0.0, began + (moment + 1) / plan.fps - clock()))
            continue
        last = moment
        image = shown(player, plan, moment % len(plan)).rgb
        now = clock()
        recent.append((now, now - began - moment / plan.fps))
        while now - recent[0][0] > _WINDOW:
            recent.popleft()
        seconds = max(now - max(began, now - _WINDOW), 1e-6)
        pace = Pace(len(recent) / seconds, float(np.mean([latency for _, latency in recent])))
        if not show(image, pace):
            return


def usable_aspect(aspect: object) -> float | None:
    """A window's width over height as its page says it; None where that cannot be."""
    if not isinstance(aspect, (int, float)) or not 0 < aspect < math.inf:
        return None
    return min(max(aspect, 1 / _LARGEST_ASPECT), _LARGEST_ASPECT)


def padded(image: UInt8[np.ndarray, "height width 3"], aspect: float | None) -> UInt8[np.ndarray, "rows columns 3"]:
    """The image in the middle of a black one of the given aspect (width over height); None leaves it as it is."""
    height, width = image.shape[:2]
    if aspect is None:
        return image
    rows, columns = max(height, round(width / aspect)), max(width, round(height * aspect))
    page = np.zeros((rows, columns, 3), np.uint8)
    top, left = (rows - height) // 2, (columns - width) // 2
    page[top : top + height, left : left + width] = image
    return page
