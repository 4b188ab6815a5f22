"""What moves on a viewer page: the frame slider, Play, and clips of the page.

nerfstudio finds the elements by a scan of this module's public attributes and shows them in the order of their names.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from partnerface_ns.plugin.clips import CLIPS_NAME, FPS, MOST_FRAMES, ClipRecorder, ClipSource
from partnerface_ns.plugin.elements import PageButton, PageCheckbox, PageSlider

_PATIENCE = 5.0
"""Seconds after which Play moves on although nothing was rendered."""


@dataclass
class _Playing:
    """One run of Play."""

    first: int
    """Frame that it began with."""
    began: float
    num_frames: int
    ended: threading.Event

    def frame_at(self, now: float) -> int:
        """The frame of the track at a time; after the last one comes the first."""
        return (self.first + int((now - self.began) * FPS + 1e-6)) % self.num_frames


class Animation(nn.Module):
    """Frame slider, Play and Record of one viewer."""

    def __init__(
        self,
        num_timesteps: int,
        timestep: int,
        show_tracked: Callable[[], None],
        source_of: Callable[[Any], ClipSource],
    ) -> None:
        """
        Args:
            num_timesteps: length of the track that the slider runs over.
            timestep: where the slider starts.
            show_tracked: called when a person asks for a frame of the track.
            source_of: gives what a clip of a page is made from.
        """
        super().__init__()
        self._show_tracked, self._source_of = show_tracked, source_of
        self._num_frames = num_timesteps
        self._playing: _Playing | None = None
        self._folder: Path | None = None
        self._recorder: ClipRecorder | None = None
        self.rendered = threading.Event()
        """Set by the model when it has rendered a page."""
        self.a_frame = PageSlider(
            "Frame",
            timestep,
            0,
            max(1, num_timesteps - 1),
            1,
            hint="Which frame's expression and pose to show",
            cb_hook=self._frame_moved,
        )
        self.b_play = PageCheckbox("Play", False, cb_hook=self._play_or_stop, hint="Let the frames run")
        self.c_record = PageCheckbox(
            "Record",
            False,
            cb_hook=self._record_or_stop,
            hint=f"A clip of what this page shows, at most {MOST_FRAMES / FPS:.0f} s. It is rendered at Max res when "
            "this is switched off",
        )
        self.d_finish = PageButton("Finish the clip now", cb_hook=self._finish, visible=False)

    def use_folder(self, folder: Path) -> None:
        """Write clips into this run folder."""
        self._folder = folder / CLIPS_NAME

    def timestep_at(self, now: float) -> int:
        """The frame shown at a time, in seconds of `time.monotonic`."""
        playing = self._playing
        return int(self.a_frame.value) if playing is None else playing.frame_at(now)

    # -- play ----------------------------------------------------------------------------------------------------

    def _frame_moved(self, slider: Any) -> None:
        if slider.page is None:
            return
        self._show_tracked()
        if self._playing is not None:
            self._playing.first, self._playing.began = int(slider.value), time.monotonic()

    def _play_or_stop(self, element: Any) -> None:
        if self._playing is not None:
            self._playing.ended.set()
            self._playing = None
        if element.value:
            self._show_tracked()
            self._playing = _Playing(int(self.a_frame.value), time.monotonic(), self._num_frames, threading.Event())
            threading.Thread(target=self._move_slider, args=(self._playing,), daemon=True).start()

    def _move_slider(self, playing: _Playing) -> None:
        """Move the slider in real time until play is switched off; what there is no time for is skipped."""
        while not playing.ended.is_set():
            self.rendered.clear()
            self.a_frame.value = playing.frame_at(time.monotonic())
            # Moves that pile up would keep the page's other controls waiting.
            self.rendered.wait(_PATIENCE)
            playing.ended.wait(1 / FPS)

    # -- record --------------------------------------------------------------------------------------------------

    def _record_or_stop(self, element: Any) -> None:
        if not element.value:
            if self._recorder is not None:
                self._recorder.stop()
        elif element.page is not None:
            problem = self._start_recording(element.page)
            if problem is not None:
                element.page.add_notification("No clip", problem, color="red")
                element.value = False

    def _start_recording(self, page: Any) -> str | None:
        """Begin a clip of a page; or say why not."""
        if self._recorder is not None and self._recorder.busy:
            return "The clip before is still being rendered."
        if self._folder is None:
            return "This viewer has no run folder to write clips to."
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / ".writable").touch()
            (self._folder / ".writable").unlink()
        except OSError as error:
            return f"Clips cannot be written: {error}"
        self._recorder = ClipRecorder(self._source_of(page), self._teller(page))
        self._recorder.start(self._folder)
        return None

    def _teller(self, page: Any) -> Callable[[str, bool], None]:
        """Shows how far a clip is: on its page, which may be closed before."""
        note = page.add_notification("Clip", "Recording. Switch Record off to render it.", loading=True)

        def tell(line: str, going_on: bool) -> None:
            note.body, note.loading = line, going_on
            self.d_finish.set_visible(going_on)
            if self.c_record.value:
                self.c_record.value = False

        return tell

    def _finish(self, _: Any) -> None:
        if self._recorder is not None:
            self._recorder.finish()
