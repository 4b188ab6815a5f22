"""Playback in real time: frames that cannot be rendered in time are skipped, and the latency is measured."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from partnerface_ns.driving.playback import Playback, render_timed_frame
from partnerface_ns.driving.player import Player

_WINDOW = 2.0
"""Seconds over which rate and latency are averaged."""
_WAIT = 0.05
"""Seconds between looks at a playback that does not change."""
_LARGEST_ASPECT = 8.0
"""Largest ratio of the sides of a page that images are padded for."""


@dataclass(frozen=True)
class Pace:
    """Rate and latency of playback."""

    fps: float
    """Images per second."""
    latency: float
    """Mean seconds from the time of a frame to its finished image."""

    def __str__(self) -> str:
        return f"{self.fps:.1f} images/s, {1000 * self.latency:.0f} ms late"


def play(
    player: Player,
    playback: Playback,
    show: Callable[[UInt8[np.ndarray, "height width 3"], Pace], bool],
    wait: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show a playback, repeatedly until `show` returns False.

    Args:
        player: the avatar.
        playback: what to play. It can be changed meanwhile.
        show: shows an image (with the source on the left, if the plan includes it) and the pace.
        wait: waits until a page is open and returns whether it had to wait. The plan then starts again.
        sleep: waits for a number of seconds, zero or more.
    """
    render_timed_frame(player, playback.current_frame())  # the first image takes seconds longer than the rest
    playback.restart()
    began, last = playback.clock(), None
    recent: deque[tuple[float, float]] = deque()
    while True:
        if wait():
            playback.restart()
            began, last = playback.clock(), None
            recent.clear()
        current = playback.current_frame()
        if current.looks_like(last):
            next_time = playback.clock() + _WAIT if current.paused else current.time + 1 / current.plan.fps
            sleep(min(_WAIT, max(0.0, next_time - playback.clock())))
            continue
        last = current
        image = render_timed_frame(player, current).rgb
        now = playback.clock()
        recent.append((now, now - current.time))
        while now - recent[0][0] > _WINDOW:
            recent.popleft()
        seconds = max(now - max(began, now - _WINDOW), 1e-6)
        pace = Pace(len(recent) / seconds, float(np.mean([latency for _, latency in recent])))
        if not show(image, pace):
            return


def usable_aspect(aspect: object) -> float | None:
    """The aspect ratio (width over height) that a page reports, limited to a usable range; None if it is invalid."""
    if not isinstance(aspect, (int, float)) or not 0 < aspect < math.inf:
        return None
    return min(max(aspect, 1 / _LARGEST_ASPECT), _LARGEST_ASPECT)


def pad(image: UInt8[np.ndarray, "height width 3"], aspect: float | None) -> UInt8[np.ndarray, "rows columns 3"]:
    """The image padded with black to an aspect ratio (width over height); None returns it unchanged."""
    height, width = image.shape[:2]
    if aspect is None:
        return image
    rows, columns = max(height, round(width / aspect)), max(width, round(height * aspect))
    page = np.zeros((rows, columns, 3), np.uint8)
    top, left = (rows - height) // 2, (columns - width) // 2
    page[top : top + height, left : left + width] = image
    return page
