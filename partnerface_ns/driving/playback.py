"""A plan that is played in real time, from a view that can be changed meanwhile."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from partnerface_ns.driving.plan import Plan, RenderedFrame, render_frame, rotate_about
from partnerface_ns.driving.player import Player, scale_camera
from partnerface_ns.geometry.camera import Camera

LARGEST_TURN, LARGEST_TILT = math.radians(60), math.radians(30)
"""Largest angles of a `View`."""


@dataclass(frozen=True)
class View:
    """How a plan is looked at."""

    size: int
    """Longer side of the images, pixels."""
    turn: float = 0.0
    """Angle by which the camera moves around the face to the person's left, radians."""
    tilt: float = 0.0
    """Angle by which the camera moves up around the face, radians."""

    def turned(self, turn: float, tilt: float) -> View:
        """The view after further angles, within the largest ones."""
        return replace(
            self,
            turn=min(LARGEST_TURN, max(-LARGEST_TURN, self.turn + turn)),
            tilt=min(LARGEST_TILT, max(-LARGEST_TILT, self.tilt + tilt)),
        )

    def move(self, camera: Camera, center: Float[np.ndarray, "3"]) -> Camera:
        """A camera moved around a centre in the world frame, at this size."""
        if self.turn or self.tilt:
            right, up = camera.T_world_camera[:3, 0], camera.T_world_camera[:3, 1]
            T = rotate_about(center, up * self.turn) @ rotate_about(center, -right * self.tilt)
            camera = replace(camera, T_world_camera=T @ camera.T_world_camera)
        return scale_camera(camera, self.size)


@dataclass(frozen=True, eq=False)
class TimedFrame:
    """A frame of a plan, the view that it is shown from, and the time at which it is due."""

    plan: Plan
    view: View
    frame: int
    """Frames since the start, over all repetitions."""
    time: float
    """When the frame is due, seconds of the clock."""
    paused: bool

    def looks_like(self, other: TimedFrame | None) -> bool:
        """Whether both give the same image."""
        if other is None or self.plan is not other.plan:
            return False
        return (self.view, self.frame) == (other.view, other.frame)


@dataclass(frozen=True, eq=False)
class _State:
    plan: Plan
    view: View
    frame: float
    """Frame at `start`, over all repetitions."""
    start: float
    """Seconds of the clock."""
    paused: bool

    def frame_at(self, now: float) -> float:
        return self.frame if self.paused else self.frame + (now - self.start) * self.plan.fps


class Playback:
    """Position in a plan and view of it. Every change replaces the whole state, so all threads see a consistent one."""

    def __init__(self, plan: Plan, view: View, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            plan: the plan that is played first.
            view: the first view.
            clock: the current time in seconds.
        """
        self.clock = clock
        self._state = _State(plan, view, 0.0, clock(), False)

    @property
    def plan(self) -> Plan:
        return self._state.plan

    @property
    def view(self) -> View:
        return self._state.view

    @view.setter
    def view(self, view: View) -> None:
        self._state = replace(self._state, view=view)

    def play(self, plan: Plan) -> None:
        """Play another plan from its start. A pause ends."""
        self._state = _State(plan, self.view, 0.0, self.clock(), False)

    def restart(self) -> None:
        """Start again with the first frame, unless the playback is paused."""
        if not self._state.paused:
            self.seek(0.0)

    def seek(self, seconds: float) -> None:
        """Continue at a time of the plan, or stay there if the playback is paused."""
        self._state = replace(self._state, frame=seconds * self.plan.fps, start=self.clock())

    def pause(self, paused: bool) -> None:
        """Pause or continue."""
        now = self.clock()
        frame = self._state.frame_at(now)
        self._state = replace(
            self._state, frame=float(math.floor(frame)) if paused else frame, start=now, paused=paused
        )

    def current_frame(self) -> TimedFrame:
        """What is to be shown now."""
        state, now = self._state, self.clock()
        frame = math.floor(state.frame_at(now) + 1e-6)
        due = now if state.paused else state.start + (frame - state.frame) / state.plan.fps
        return TimedFrame(state.plan, state.view, frame, due, state.paused)


def render_timed_frame(player: Player, shown: TimedFrame) -> RenderedFrame:
    """Render a frame of a playback. Its plan must have been made for this player."""
    plan, index = shown.plan, shown.frame % len(shown.plan)
    return render_frame(player, plan, index, shown.view.move(plan.cameras[index], player.face_center))
