"""Frames of a video file, or of a folder of images, as a player shows them, in order of time, one at a time.

A frame is upright, with square pixels and BT.709 colours. Times are seconds from the first frame of the file; a
variable frame rate is kept (each frame has its own time) and `fps` picks the frames nearest to a regular grid. Memory
stays bounded: nothing but the current frames are held. Reading a video twice gives the same frames at the same times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from partnerface_ns.errors import SubjectError
from partnerface_ns.files import require_file
from partnerface_ns.tracking.frame import FOLDER_FPS, INSTALL_HINT, Note, VideoFrame, require
from partnerface_ns.tracking.image_folder import images_of, read_folder, size_of_images
from partnerface_ns.tracking.video_file import Length, length_of_file, read_file

__all__ = ["INSTALL_HINT", "Selection", "VideoFrame", "estimate_count", "length_of", "read_frames", "require"]

MIN_FRAMES = 10
"""Frames that tracking needs at least."""


@dataclass(frozen=True)
class Selection:
    """Which frames of a video are wanted."""

    fps: float | None = None
    """At most this many frames a second; None takes all."""
    start: float = 0.0
    """Seconds from the beginning of the file."""
    end: float | None = None
    """Seconds from the beginning of the file; None goes to its end."""
    max_frames: int | None = None
    """At most this many frames; None takes all."""


def _ignore(sentence: str) -> None:
    pass


def read_frames(path: Path, selection: Selection, note: Note = _ignore) -> Iterator[VideoFrame]:
    """The wanted frames of a video file or of a folder of images.

    A file that breaks off, or that is damaged, gives the frames that are whole.

    Args:
        path: the file or folder.
        selection: which frames.
        note: is told, in sentences, what was converted, inferred or left out; the last ones when reading ends.

    Raises:
        SubjectError: nothing there, no video in the file, or not one frame that can be decoded.
    """
    path = Path(path)
    require_readable(path)
    taken, has_alpha = 0, False
    with closing(read_folder(path, note) if path.is_dir() else read_file(path, note)) as frames:
        for frame in _select(frames, selection):
            if frame.alpha is not None and not has_alpha:
                note("The frames carry alpha: it is the matte.")
                has_alpha = True
            taken += 1
            yield frame
    if taken == 0:
        raise _outside(path, selection, length_of(path).seconds)


def require_readable(path: Path) -> None:
    """Check that there is a file with something in it, or a folder.

    Raises:
        SubjectError: there is neither.
    """
    if not path.exists():
        raise SubjectError(path, "the video does not exist")
    if not path.is_dir():
        require_file(path)


def length_of(path: Path) -> Length:
    """What a video announces about itself.

    Raises:
        SubjectError: no video that can be opened.
    """
    path = Path(path)
    require_readable(path)
    if not path.is_dir():
        return length_of_file(path)
    return Length(len(images_of(path)) / FOLDER_FPS, FOLDER_FPS, max(size_of_images(path)))


def require_selection(selection: Selection, path: Path) -> None:
    """Check that a selection makes sense for a video, before anything is decoded.

    Raises:
        SubjectError: an option is out of range, or the part is empty; says how long the video is.
    """
    if selection.fps is not None and not (math.isfinite(selection.fps) and selection.fps > 0):
        raise SubjectError("--fps", "out of range", expected="more than 0", found=f"{selection.fps:g}")
    if selection.max_frames is not None and selection.max_frames < MIN_FRAMES:
        raise SubjectError("--max-frames", "too few", expected=f"at least {MIN_FRAMES}", found=selection.max_frames)
    seconds = length_of(path).seconds
    of_video = "seconds" if seconds is None else f"in a video of {seconds:.2f} s"
    if not (math.isfinite(selection.start) and selection.start >= 0):
        raise SubjectError("--start", "out of range", expected=f"0 or more, {of_video}", found=f"{selection.start:g}")
    if selection.end is not None and not (math.isfinite(selection.end) and selection.end > 0):
        raise SubjectError("--end", "out of range", expected=f"more than 0, {of_video}", found=f"{selection.end:g}")
    if (selection.end is not None and selection.end <= selection.start) or (
        seconds is not None and selection.start >= seconds
    ):
        raise _outside(path, selection, seconds)


def _outside(path: Path, selection: Selection, seconds: float | None) -> SubjectError:
    end = "the end" if selection.end is None else f"{selection.end:g} s"
    return SubjectError(
        path,
        "no frame in the chosen part of the video (--start, --end)",
        expected="a part of it" if seconds is None else f"a part of its {seconds:.2f} s",
        found=f"{selection.start:g} s to {end}",
    )


def estimate_count(path: Path, selection: Selection) -> int | None:
    """About how many frames `read_frames` will give, from the container's word; None where it does not say."""
    length = length_of(path)
    if length.seconds is None or length.fps is None:
        return None
    end = length.seconds if selection.end is None else min(length.seconds, selection.end)
    count = round(max(0.0, end - selection.start) * min(length.fps, selection.fps or length.fps))
    return count if selection.max_frames is None else min(count, selection.max_frames)


def _select(frames: Iterator[VideoFrame], selection: Selection) -> Iterator[VideoFrame]:
    taken, next_time = 0, selection.start
    for frame in frames:
        if selection.end is not None and frame.time > selection.end:
            return
        if frame.time < next_time - 1e-3:
            continue
        if selection.fps is not None:
            step = 1 / selection.fps
            next_time += step * max(1, np.floor((frame.time - next_time) / step + 1e-3) + 1)
        yield frame
        taken += 1
        if selection.max_frames is not None and taken >= selection.max_frames:
            return
