"""Motion of a viewer page: the frame slider, Play, and clips of the page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from partnerface_ns.plugin.clips import CLIPS_NAME, FPS, MAX_FRAMES, ClipRecorder, ClipSource
from partnerface_ns.plugin.elements import ControlFolder, PageButton, PageCheckbox, PageSlider

_SPEEDS = (0.1, 2.0)
"""Lowest and highest speed of Play."""
_MAX_WAIT = 5.0
"""Seconds after which Play moves on even if no image was rendered."""


@dataclass
class Playback:
    """One run of Play."""

    num_frames: int
    frame: float
    """Frame of the track at `start`."""
    start: float
    """Seconds of `time.monotonic`."""
    speed: float = 1.0
    """Seconds of the track per second."""
    loop: bool = True
    """Whether the first frame follows the last."""
    ended: threading.Event = field(default_factory=threading.Event)

    def frame_at(self, now: float) -> int:
        """The frame of the track at a time."""
        frame = int(self._position(now) + 1e-6)
        return frame % self.num_frames if self.loop else min(frame, self.num_frames - 1)

    def is_over(self, now: float) -> bool:
        """Whether the last frame was shown for its time. A loop is never over."""
        return not self.loop and self._position(now) >= self.num_frames

    def change(self, now: float, speed: float, loop: bool) -> None:
        """Continue from the current frame at another speed, with or without a loop."""
        position = self._position(now)
        position = position % self.num_frames if self.loop else min(position, self.num_frames - 1)
        self.frame, self.start, self.speed, self.loop = position, now, speed, loop

    def _position(self, now: float) -> float:
        return self.frame + (now - self.start) * FPS * self.speed


class Animation(ControlFolder):
    """Frame slider, Play and Record of one viewer."""

    def __init__(
        self,
        num_timesteps: int,
        timestep: int,
        show_tracked: Callable[[], None],
        rerender: Callable[[], None],
        clip_source: Callable[[Any], ClipSource],
    ) -> None:
        """
        Args:
            num_timesteps: length of the track.
            timestep: the frame that is shown first.
            show_tracked: called when a person selects a frame of the track.
            rerender: renders all pages again.
            clip_source: gives the source of a clip from a page.
        """
        super().__init__()
        self._show_tracked, self._rerender, self._clip_source = show_tracked, rerender, clip_source
        self._num_frames = num_timesteps
        self._playback: Playback | None = None
        self._folder: Path | None = None
        self._recorder: ClipRecorder | None = None
        self.rendered = threading.Event()
        """Set after each rendered page image."""
        self.frame = PageSlider(
            "Frame",
            timestep,
            0,
            max(1, num_timesteps - 1),
            1,
            hint="Frame of the track whose expression and pose are shown",
            cb_hook=self._on_frame,
        )
        self.play = PageCheckbox("Play", False, cb_hook=self._on_play, hint="Play the tracked motion")
        self.loop = PageCheckbox(
            "Loop", True, cb_hook=self._on_pace, hint="Play the first frame after the last, or stop there"
        )
        self.speed = PageSlider(
            "Speed", 1.0, *_SPEEDS, 0.1, cb_hook=self._on_pace, hint="Speed of Play; 1 is that of the video"
        )
        self.record = PageCheckbox(
            "Record",
            False,
            cb_hook=self._on_record,
            hint=f"Record a clip of this page, at most {MAX_FRAMES / FPS:.0f} s. It is rendered at Max res when "
            "you switch this off",
        )
        self.finish = PageButton("Finish the clip now", cb_hook=self._on_finish, visible=False)
        self.show_in_order([self.frame, self.play, self.loop, self.speed, self.record, self.finish])

    def use_folder(self, folder: Path) -> None:
        """Write clips into this run folder."""
        self._folder = folder / CLIPS_NAME

    def timestep_at(self, now: float) -> int:
        """The frame shown at a time in seconds of `time.monotonic`."""
        playback = self._playback
        return int(self.frame.value) if playback is None else playback.frame_at(now)

    # -- play ----------------------------------------------------------------------------------------------------

    def _on_frame(self, slider: Any) -> None:
        self._show_tracked()
        if self._playback is not None:
            self._playback.frame, self._playback.start = float(slider.value), time.monotonic()

    def _on_pace(self, _: Any) -> None:
        if self._playback is not None:
            self._playback.change(time.monotonic(), float(self.speed.value), bool(self.loop.value))

    def _on_play(self, checkbox: Any) -> None:
        if self._playback is not None:
            self._playback.ended.set()
            self._playback = None
        if checkbox.value:
            self._show_tracked()
            frame, loop = float(self.frame.value), bool(self.loop.value)
            if not loop and frame == self._num_frames - 1:
                frame = 0.0
            self._playback = Playback(self._num_frames, frame, time.monotonic(), float(self.speed.value), loop)
            threading.Thread(target=self._move_slider, args=(self._playback,), daemon=True).start()

    def _move_slider(self, playback: Playback) -> None:
        """Move the slider in real time until Play ends. A slow machine skips frames."""
        while not playback.ended.is_set():
            self.rendered.clear()
            now = time.monotonic()
            self.frame.value = playback.frame_at(now)
            if playback.is_over(now) and self._playback is playback:
                self._playback, self.play.value = None, False
                playback.ended.set()
            self._rerender()
            # Changes that pile up would delay the page's other controls.
            self.rendered.wait(_MAX_WAIT)
            playback.ended.wait(1 / FPS)

    # -- record --------------------------------------------------------------------------------------------------

    def _on_record(self, checkbox: Any) -> None:
        if not checkbox.value:
            if self._recorder is not None:
                self._recorder.stop()
        else:
            problem = self._start_clip(checkbox.page)
            if problem is not None:
                checkbox.page.add_notification("No clip", problem, color="red")
                checkbox.value = False

    def _start_clip(self, page: Any) -> str | None:
        """Start a clip of a page, or return why that is not possible."""
        if self._recorder is not None and self._recorder.busy:
            return "The previous clip is still being rendered."
        if self._folder is None:
            return "This viewer has no run folder to write clips to."
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / ".writable").touch()
            (self._folder / ".writable").unlink()
        except OSError as error:
            return f"Clips cannot be written: {error}"
        self._recorder = ClipRecorder(self._clip_source(page), self._progress_on(page))
        self._recorder.start(self._folder)
        return None

    def _progress_on(self, page: Any) -> Callable[[str, bool], None]:
        """Shows a clip's progress on its page. The page may be closed before the clip is done."""
        notification = page.add_notification("Clip", "Recording. Switch Record off to render it.", loading=True)

        def report(line: str, busy: bool) -> None:
            notification.body, notification.loading = line, busy
            self.finish.show(busy)
            if self.record.value:
                self.record.value = False

        return report

    def _on_finish(self, _: Any) -> None:
        if self._recorder is not None:
            self._recorder.finish()
