"""Clips of a viewer page: what the page shows is noted in real time, then every noted frame is rendered.

The clip is as long as the recording, and no frame of it is missing, repeated or small because a machine is slow.
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

from partnerface_ns.rendering.figures import save_clip

CLIPS_NAME = "clips"
"""Folder in the run folder that holds recorded clips."""
FPS = 25.0
MOST_FRAMES = 1500
"""Frames after which a recording ends by itself: one minute."""
Image = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True)
class Look:
    """What a page's controls ask for."""

    timestep: int | None = None
    """Frame of the track; None shows the neutral face."""
    channels: tuple[tuple[str, float], ...] | None = None
    """The expression sliders; None shows the tracked motion."""
    part: int | None = None
    """The part to look at."""
    muted: bool = False
    """Whether that part does not deform; else it is shown alone."""
    mesh: bool = False
    """Whether the mesh lies over the image."""


@dataclass(frozen=True, eq=False)
class Note:
    """One frame of a clip before it is rendered."""

    camera: CameraState
    look: Look

    def same_as(self, other: Note | None) -> bool:
        """Whether both give the same image."""
        if other is None or self.look != other.look or self.camera.fov != other.camera.fov:
            return False
        return bool((self.camera.c2w == other.camera.c2w).all())


@runtime_checkable
class ClipSource(Protocol):
    """A page that is recorded."""

    def note(self, now: float) -> Note | None:
        """What the page shows at a time (seconds, of `time.monotonic`); None where there is nothing to note."""
        ...

    def image(self, note: Note) -> Image:
        """A note's image; all of a clip have one size."""
        ...

    def waits_for(self) -> str | None:
        """Why nothing can be rendered now."""
        ...


class ClipRecorder:
    """Records one clip, in a thread of its own."""

    def __init__(self, source: ClipSource, tell: Callable[[str, bool], None]) -> None:
        """
        Args:
            source: a page.
            tell: takes a line for the page, and whether work goes on.
        """
        self._source, self._tell = source, tell
        self._stopped, self._finished = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a clip is recorded or rendered."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, folder: Path) -> None:
        """Begin to note frames; the clip goes to `clip_000.mp4`, or the next free name, of this folder."""
        self._thread = threading.Thread(target=self._run, args=(folder,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Note no more frames, and render those noted."""
        self._stopped.set()

    def finish(self) -> None:
        """Render no more frames: the clip ends with those that are rendered."""
        self._stopped.set()
        self._finished.set()

    def join(self) -> None:
        """Wait until the clip is written."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, folder: Path) -> None:
        notes = list(self._notes())
        if not notes or not self._may_render():
            self._tell("There is no clip: nothing was recorded, or it was ended before its first frame.", False)
            return
        path = next(p for i in range(10**6) if not (p := folder / f"clip_{i:03d}.mp4").exists())
        try:
            save_clip(path, self._images(notes), FPS)
        except OSError as error:
            self._tell(f"The clip was not written: {error}", False)
        else:
            self._tell(f"Written to {path}", False)

    def _notes(self) -> Iterator[Note]:
        """A note for every frame of real time; a thread that wakes up late notes what it missed."""
        began, frame = time.monotonic(), 0
        while frame < MOST_FRAMES:
            due = began + frame / FPS
            if self._stopped.wait(max(0.0, due - time.monotonic())):
                return
            note = self._source.note(due)
            if note is not None:
                yield note
            frame += 1

    def _images(self, notes: list[Note]) -> Iterator[Image]:
        before, began = None, time.monotonic()
        for index, note in enumerate(notes):
            if index and not self._may_render():
                return
            left = f", {_duration((time.monotonic() - began) / index * (len(notes) - index))} left" if index else ""
            self._tell(f"Rendering frame {index + 1} of {len(notes)}{left}", True)
            if not note.same_as(before):
                image, before = self._source.image(note), note
            yield image

    def _may_render(self) -> bool:
        """Wait until images can be rendered; False where the clip ends before."""
        while not self._finished.is_set():
            reason = self._source.waits_for()
            if reason is None:
                return True
            self._tell(reason, True)
            self._finished.wait(0.5)
        return False


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
