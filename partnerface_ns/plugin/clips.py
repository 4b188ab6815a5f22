"""Clips of a viewer page: the page's state is recorded in real time, then every recorded frame is rendered.

The clip lasts as long as the recording. On a slow machine, rendering takes longer, but no frame is missing, repeated or
smaller.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from nerfstudio.viewer.utils import CameraState

from partnerface_ns.plugin.page_settings import PageSettings
from partnerface_ns.rendering.figures import save_clip

CLIPS_NAME = "clips"
"""Folder in the run folder that holds recorded clips."""
FPS = 25.0
MAX_FRAMES = 1500
"""Frames after which a recording ends: one minute."""
Image = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True, eq=False)
class ClipFrame:
    """One frame of a clip before it is rendered."""

    camera: CameraState
    settings: PageSettings

    def looks_like(self, other: ClipFrame | None) -> bool:
        """Whether both frames give the same image."""
        if other is None or self.settings != other.settings or self.camera.fov != other.camera.fov:
            return False
        return bool((self.camera.c2w == other.camera.c2w).all())


@runtime_checkable
class ClipSource(Protocol):
    """A page that can be recorded."""

    def snapshot(self, now: float) -> ClipFrame | None:
        """The page's state at a time in seconds of `time.monotonic`; None if it cannot be recorded now."""
        ...

    def render(self, frame: ClipFrame) -> Image:
        """Render a frame. All frames of a clip have the same size."""
        ...

    def waiting_reason(self) -> str | None:
        """Why nothing can be rendered now; None if it can."""
        ...


class ClipRecorder:
    """Records one clip in a thread of its own."""

    def __init__(self, source: ClipSource, report: Callable[[str, bool], None]) -> None:
        """
        Args:
            source: the page.
            report: takes a line of text for the page, and whether the recorder is still busy.
        """
        self._source, self._report = source, report
        self._stopped, self._finished = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a clip is being recorded or rendered."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, folder: Path) -> None:
        """Start recording. The clip becomes `clip_000.mp4`, or the next free name, in this folder."""
        self._thread = threading.Thread(target=self._run, args=(folder,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop recording and render the recorded frames."""
        self._stopped.set()

    def finish(self) -> None:
        """Stop rendering. The clip ends with the frames rendered so far."""
        self._stopped.set()
        self._finished.set()

    def join(self) -> None:
        """Wait until the clip is written."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, folder: Path) -> None:
        frames = list(self._record())
        if not frames or not self._wait_for_renderer():
            self._report("There is no clip: it has no frames, or was finished before the first was rendered.", False)
            return
        path = next(p for i in range(10**6) if not (p := folder / f"clip_{i:03d}.mp4").exists())
        try:
            save_clip(path, self._render(frames), FPS)
        except OSError as error:
            self._report(f"The clip was not written: {error}", False)
        else:
            self._report(f"Written to {path}", False)

    def _record(self) -> Iterator[ClipFrame]:
        """A frame for every 1 / FPS seconds. If the thread wakes up late, it adds the frames that it missed."""
        start, index = time.monotonic(), 0
        while index < MAX_FRAMES:
            due = start + index / FPS
            if self._stopped.wait(max(0.0, due - time.monotonic())):
                return
            frame = self._source.snapshot(due)
            if frame is not None:
                yield frame
            index += 1

    def _render(self, frames: list[ClipFrame]) -> Iterator[Image]:
        image: Image | None = None
        rendered, start = None, time.monotonic()
        for index, frame in enumerate(frames):
            if index and not self._wait_for_renderer():
                return
            left = f", {_duration((time.monotonic() - start) / index * (len(frames) - index))} left" if index else ""
            self._report(f"Rendering frame {index + 1} of {len(frames)}{left}", True)
            if image is None or not frame.looks_like(rendered):
                image, rendered = self._source.render(frame), frame
            yield image

    def _wait_for_renderer(self) -> bool:
        """Wait until images can be rendered; False if the clip is finished first."""
        while not self._finished.is_set():
            reason = self._source.waiting_reason()
            if reason is None:
                return True
            self._report(reason, True)
            self._finished.wait(0.5)
        return False


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
