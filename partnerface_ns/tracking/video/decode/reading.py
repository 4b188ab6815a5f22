"""Reads the frames of a video file or of an image folder one by one, as a video player shows them.

Frames are upright, with square pixels and BT.709 colours. Times are seconds from the first frame of the file. A
variable frame rate is kept: each frame has its own time, and `fps` selects the frames nearest to a regular grid. Only
the current frames are in memory. Reading a video twice gives the same frames at the same times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import require_file
from partnerface_ns.tracking.video.decode.frame import FOLDER_FPS, Note, VideoFrame
from partnerface_ns.tracking.video.decode.image_folder import image_size, list_images, read_folder
from partnerface_ns.tracking.video.decode.video_file import VideoInfo, file_info, read_file

MIN_FRAMES = 10
"""Smallest number of frames that can be tracked."""


@dataclass(frozen=True)
class Selection:
    """A selection of the frames of a video."""

    fps: float | None = None
    """Largest frame rate; None takes all frames."""
    start: float = 0.0
    """First time, seconds from the beginning of the file."""
    end: float | None = None
    """Last time, seconds from the beginning of the file; None reads to its end."""
    max_frames: int | None = None
    """Largest number of frames; None takes all."""


def _ignore(sentence: str) -> None:
    pass


def read_frames(path: Path, selection: Selection, note: Note = _ignore) -> Iterator[VideoFrame]:
    """Read the selected frames of a video file or image folder.

    A truncated or damaged file gives its intact frames.

    Args:
        path: the file or folder.
        selection: which frames to read.
        note: receives sentences about what was converted, inferred or left out, the last ones at the end.

    Raises:
        InputError: the path does not exist, the file has no video, or no frame can be decoded.
    """
    path = Path(path)
    require_readable(path)
    num_taken, has_alpha = 0, False
    with closing(read_folder(path, note) if path.is_dir() else read_file(path, note)) as frames:
        for frame in _select(frames, selection):
            if frame.alpha is not None and not has_alpha:
                note("The frames carry alpha: it is the matte.")
                has_alpha = True
            num_taken += 1
            yield frame
    if num_taken == 0:
        raise _empty_selection(path, selection, video_info(path).seconds)


def require_readable(path: Path) -> None:
    """Check that the path is a folder or a file that is not empty.

    Raises:
        InputError: it is neither.
    """
    if not path.exists():
        raise InputError(path, "the video does not exist")
    if not path.is_dir():
        require_file(path)


def video_info(path: Path) -> VideoInfo:
    """Return the length, frame rate and size that a video states, without decoding it.

    Raises:
        InputError: the video cannot be opened.
    """
    path = Path(path)
    require_readable(path)
    if not path.is_dir():
        return file_info(path)
    return VideoInfo(len(list_images(path)) / FOLDER_FPS, FOLDER_FPS, max(image_size(path)))


def require_selection(selection: Selection, path: Path) -> None:
    """Check the values of a selection; no video is needed.

    Raises:
        InputError: a value is out of range. The error states the length of the video, if it can be opened.
    """
    if selection.fps is not None and not (math.isfinite(selection.fps) and selection.fps > 0):
        raise InputError("--fps", "out of range", expected="more than 0", actual=f"{selection.fps:g}")
    if selection.max_frames is not None and selection.max_frames < MIN_FRAMES:
        raise InputError("--max-frames", "too few", expected=f"at least {MIN_FRAMES}", actual=selection.max_frames)
    if not (math.isfinite(selection.start) and selection.start >= 0):
        raise _time_out_of_range("--start", "0 or more", selection.start, path)
    if selection.end is not None and not (math.isfinite(selection.end) and selection.end > 0):
        raise _time_out_of_range("--end", "more than 0", selection.end, path)
    if selection.end is not None and selection.end <= selection.start:
        raise _empty_selection(path, selection, stated_info(path).seconds)


def require_part(selection: Selection, path: Path) -> None:
    """Check that a selection begins before the end of its video, without decoding it.

    Raises:
        InputError: it does not, or the video cannot be opened.
    """
    seconds = video_info(path).seconds
    if seconds is not None and selection.start >= seconds:
        raise _empty_selection(path, selection, seconds)


def stated_info(path: Path) -> VideoInfo:
    """`video_info`; nothing is known of a video that cannot be opened."""
    try:
        return video_info(path)
    except InputError:
        return VideoInfo(None, None, None)


def _time_out_of_range(option: str, expected: str, actual: float, path: Path) -> InputError:
    seconds = stated_info(path).seconds
    length = "" if seconds is None else f", in a video of {seconds:.2f} s"
    return InputError(option, "out of range", expected=expected + length, actual=f"{actual:g}")


def _empty_selection(path: Path, selection: Selection, seconds: float | None) -> InputError:
    end = "the end" if selection.end is None else f"{selection.end:g} s"
    return InputError(
        path,
        "no frame in the chosen part of the video (--start, --end)",
        expected="a part of it" if seconds is None else f"a part of its {seconds:.2f} s",
        actual=f"{selection.start:g} s to {end}",
    )


def estimate_count(path: Path, selection: Selection) -> int | None:
    """Estimate the number of frames from what the container states; None if it states too little."""
    length = video_info(path)
    if length.seconds is None or length.fps is None:
        return None
    end = length.seconds if selection.end is None else min(length.seconds, selection.end)
    count = round(max(0.0, end - selection.start) * min(length.fps, selection.fps or length.fps))
    return count if selection.max_frames is None else min(count, selection.max_frames)


def _select(frames: Iterator[VideoFrame], selection: Selection) -> Iterator[VideoFrame]:
    """Yield the selected frames."""
    num_taken, next_time = 0, selection.start
    for frame in frames:
        if selection.end is not None and frame.time > selection.end:
            return
        if frame.time < next_time - 1e-3:
            continue
        if selection.fps is not None:
            step = 1 / selection.fps
            next_time += step * max(1, np.floor((frame.time - next_time) / step + 1e-3) + 1)
        yield frame
        num_taken += 1
        if selection.max_frames is not None and num_taken >= selection.max_frames:
            return
