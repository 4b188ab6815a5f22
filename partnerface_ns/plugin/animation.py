"""Motion of a viewer page: the frame slider, Play, and clips of the page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partnerface_ns.plugin.clips import CLIPS_NAME, FPS, MAX_FRAMES, ClipRecorder, ClipSource
from partnerface_ns.plugin.elements import ControlFolder, PageButton, PageCheckbox, PageSlider

_MAX_WAIT = 5.0
"""Seconds after which Play moves on even if no image was rendered."""


@dataclass
class _Playback:
    """One run of Play."""

    first_frame: int
    start_time: float
    """Seconds of `time.monotonic`."""
    num_frames: int
    ended: threading.Event

    def frame_at(self, now: float) -> int:
        """The frame of the track at a time. The first frame follows the last."""
        return (self.first_frame + int((now - self.start_time) * FPS + 1e-6)) % self.num_frames


class Animation(ControlFolder):
    """Frame slider, Play and Record of one viewer."""

    def __init__(
        self,
        num_timesteps: int,
        timestep: int,
        show_tracked: Callable[[], None],
        clip_source: Callable[[Any], ClipSource],
    ) -> None:
        """
        Args:
            num_timesteps: length of the track.
            timestep: the frame that is shown first.
            show_tracked: called when a person selects a frame of the track.
            clip_source: gives the source of a clip from a page.
        """
        super().__init__()
        self._show_tracked, self._clip_source = show_tracked, clip_source
        self._num_frames = num_timesteps
        self._playback: _Playback | None = None
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
        self.record = PageCheckbox(
            "Record",
            False,
            cb_hook=self._on_record,
            hint=f"Record a clip of this page, at most {MAX_FRAMES / FPS:.0f} s. It is rendered at Max res when "
            "you switch this off",
        )
        self.finish = PageButton("Finish the clip now", cb_hook=self._on_finish, visible=False)
        self.show_in_order([self.frame, self.play, self.record, self.finish])

    def use_folder(self, folder: Path) -> None:
        """Write clips into this run folder."""
        self._folder = folder / CLIPS_NAME

    def timestep_at(self, now: float) -> int:
        """The frame shown at a time in seconds of `time.monotonic`."""
        playback = self._playback
        return int(self.frame.value) if playback is None else playback.frame_at(now)

    # -- play ----------------------------------------------------------------------------------------------------

    def _on_frame(self, slider: Any) -> None:
        if slider.page is None:
            return
        self._show_tracked()
        if self._playback is not None:
            self._playback.first_frame, self._playback.start_time = int(slider.value), time.monotonic()

    def _on_play(self, checkbox: Any) -> None:
        if self._playback is not None:
            self._playback.ended.set()
            self._playback = None
        if checkbox.value:
            self._show_tracked()
            self._playback = _Playback(int(self.frame.value), time.monotonic(), self._num_frames, threading.Event())
            threading.Thread(target=self._move_slider, args=(self._playback,), daemon=True).start()

    def _move_slider(self, playback: _Playback) -> None:
        """Move the slider in real time until Play ends. A slow machine skips frames."""
        while not playback.ended.is_set():
            self.rendered.clear()
            self.frame.value = playback.frame_at(time.monotonic())
            # Changes that pile up would delay the page's other controls.
            self.rendered.wait(_MAX_WAIT)
            playback.ended.wait(1 / FPS)

    # -- record --------------------------------------------------------------------------------------------------

    def _on_record(self, checkbox: Any) -> None:
        if not checkbox.value:
            if self._recorder is not None:
                self._recorder.stop()
        elif checkbox.page is not None:
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
            self.finish.set_visible(busy)
            if self.record.value:
                self.record.value = False

        return report

    def _on_finish(self, _: Any) -> None:
        if self._recorder is not None:
            self._recorder.finish()
