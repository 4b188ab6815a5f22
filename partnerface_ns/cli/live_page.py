"""The page of `partnerface live`: the avatar, and controls for motion, time, size and view that all pages share."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from partnerface_ns.cli.page_server import PageServer
    from partnerface_ns.driving.live import Pace
    from partnerface_ns.driving.plan import Plan
    from partnerface_ns.driving.playback import Playback
    from partnerface_ns.driving.player import Player

_SIZES = (128, 192, 256, 384, 512)
"""Sizes of images to choose from, pixels."""
_FOLLOW_SECONDS, _HOLD_SECONDS = 0.25, 1.0
"""Seconds between two updates of the time slider by the program, and from a person's move to the next update."""


def serve(player: Player, name: str, plan: Plan, size: int, host: str, port: int) -> None:
    """Play a plan, or built-in motions that a page selects, until the program is stopped.

    Args:
        player: the avatar.
        name: name of the plan's motion.
        plan: the plan that is played first.
        size: longer side of the first images, pixels.
        host: the address of the page.
        port: its port.
    """
    from partnerface_ns.cli.page_server import PageServer
    from partnerface_ns.driving.builtin_motions import BUILTIN_MOTIONS
    from partnerface_ns.driving.live import play
    from partnerface_ns.driving.playback import Playback, View

    playback = Playback(plan, View(size))
    server = PageServer(host, port)
    motions = {name: plan} | {motion: None for motion in BUILTIN_MOTIONS if motion != name}
    page = LivePage(server, playback, motions, lambda motion: builtin_plan(player, motion))
    page.set_line("The avatar is being baked")
    print(f"Open {server.addresses} in a browser. Ctrl-C ends it.", flush=True)
    try:
        play(player, playback, page.show, server.wait_for_page)
    finally:
        server.stop()


def builtin_plan(player: Player, motion: Any) -> Plan:
    """The plan of a built-in motion."""
    from partnerface_ns.cli.avatars import read_motion
    from partnerface_ns.driving.plan import PlanConfig, make_plan

    return make_plan(player, read_motion(None, motion, player.person.model, None, None, Path()), PlanConfig())


class LivePage:
    """Controls of all pages of one server."""

    def __init__(
        self,
        server: PageServer,
        playback: Playback,
        motions: dict[str, Plan | None],
        make_plan: Callable[[str], Plan],
    ) -> None:
        """
        Args:
            server: shows the pages.
            playback: what the pages show.
            motions: motions to choose from. The first is played, and plans that are None are made when needed.
            make_plan: makes the plan of a motion.
        """
        from partnerface_ns.driving.playback import LARGEST_TILT, LARGEST_TURN

        self._server, self._playback, self._plans, self._make_plan = server, playback, motions, make_plan
        self._mouse, self._next_follow = MouseOrbit(), 0.0
        self.set_line = server.one_line_panel()
        gui, size = server.gui, playback.view.size
        turn, tilt = round(math.degrees(LARGEST_TURN)), round(math.degrees(LARGEST_TILT))
        self._folder = gui.add_folder("Controls", expand_by_default=False)
        with self._folder:
            self.motion = gui.add_dropdown("Motion", list(motions))
            self.playing = gui.add_checkbox("Play", True)
            self.size = gui.add_dropdown("Size", [str(side) for side in sorted({*_SIZES, size})], str(size))
            self.turn = gui.add_slider("Turn", -turn, turn, 1, 0, hint="Degrees; or drag the image")
            self.tilt = gui.add_slider("Tilt", -tilt, tilt, 1, 0, hint="Degrees; or drag the image")
            self.front = gui.add_button("Front view")
        self.time = self._add_time()
        for control, changed in (
            (self.motion, self._on_motion),
            (self.playing, self._on_playing),
            (self.size, self._on_size),
            (self.turn, self._on_view),
            (self.tilt, self._on_view),
        ):
            control.on_update(by_person(changed))
        self.front.on_click(by_person(self._on_front))
        server.on_camera(self._on_camera)

    def _add_time(self) -> Any:
        """A time slider for the current plan. viser cannot change the range of an existing slider."""
        plan, order = self._playback.plan, self.playing.order + 0.5
        seconds = max(0.1, round(len(plan) / plan.fps, 1))
        with self._folder:
            slider = self._server.gui.add_slider("Seconds", 0.0, seconds, 0.1, 0.0, order=order)
        slider.on_update(by_person(self._on_time))
        return slider

    def show(self, image: np.ndarray, pace: Pace) -> bool:
        """Show an image and the pace, and move the time slider."""
        now, current = time.monotonic(), self._playback.current_frame()
        self.set_line("Paused" if current.paused else str(pace))
        self._server.show(image)
        if now >= self._next_follow:
            self._next_follow = now + _FOLLOW_SECONDS
            seconds = round(current.frame % len(current.plan) / current.plan.fps, 1)
            if seconds != self.time.value:  # while it is paused, a person may be typing
                self.time.value = seconds
        return True

    def _on_motion(self) -> None:
        name = self.motion.value
        if self._plans[name] is None:
            self.set_line(f"{name} is being loaded")
            self._plans[name] = self._make_plan(name)
        plan = self._plans[name]
        if plan is None or name != self.motion.value:  # another one was selected meanwhile
            return
        self._playback.play(plan)
        self.playing.value = True
        before, self.time = self.time, self._add_time()
        before.remove()

    def _on_playing(self) -> None:
        self._playback.pause(not self.playing.value)
        if not self.playing.value:
            self.set_line("Paused")

    def _on_time(self) -> None:
        self._next_follow = time.monotonic() + _HOLD_SECONDS
        self._playback.seek(float(self.time.value))

    def _on_size(self) -> None:
        self._playback.view = replace(self._playback.view, size=int(self.size.value))

    def _on_view(self) -> None:
        turn, tilt = math.radians(self.turn.value), math.radians(self.tilt.value)
        self._playback.view = replace(self._playback.view, turn=turn, tilt=tilt)

    def _turn_by(self, turn: float, tilt: float) -> None:
        """Turn the view, and move the sliders with it."""
        self._playback.view = view = self._playback.view.turned(turn, tilt)
        self.turn.value, self.tilt.value = round(math.degrees(view.turn)), round(math.degrees(view.tilt))

    def _on_front(self) -> None:
        view = self._playback.view
        self._turn_by(-view.turn, -view.tilt)

    def _on_camera(self, page: int, camera: Any) -> None:
        """Turn the view as a person turns the page's camera with the mouse."""
        turn, tilt = self._mouse.move(page, camera.position, camera.look_at)
        if turn or tilt:
            self._turn_by(turn, tilt)


class MouseOrbit:
    """Turns of the cameras of pages. viser's camera orbits around the z-axis through the point that it looks at."""

    def __init__(self) -> None:
        self._directions: dict[int, tuple[float, float]] = {}

    def move(self, page: int, position: np.ndarray, look_at: np.ndarray) -> tuple[float, float]:
        """Turn and tilt since the page's previous call, radians; zero at first, and for values that are no camera."""
        try:
            x, y, z = (float(a) - float(b) for a, b in zip(position, look_at, strict=True))
        except (TypeError, ValueError):
            return 0.0, 0.0
        if not math.isfinite(x + y + z) or not (x or y or z):
            return 0.0, 0.0
        direction = (math.atan2(y, x), math.atan2(z, math.hypot(x, y)))
        before = self._directions.get(page, direction)
        self._directions[page] = direction
        return math.remainder(direction[0] - before[0], 2 * math.pi), direction[1] - before[1]


def by_person(changed: Callable[[], None]) -> Callable[[Any], None]:
    """A callback for viser that ignores changes by the program."""
    return lambda event: None if event.client is None else changed()
