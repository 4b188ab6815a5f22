"""Frames of a video file, or of a folder of images, upright, in order of time, one at a time.

A frame is (rows, columns, 3) uint8 RGB. Times are seconds from the first frame of the file; a variable frame rate is
kept (each frame has its own time) and `fps` picks the frames nearest to a regular grid. Memory stays bounded: nothing
but the current frame is held.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from partnerface_ns.errors import SubjectError
from partnerface_ns.files import require_file

INSTALL_HINT = "pip install 'partnerface[track]'"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_FOLDER_FPS = 25.0
"""Frame rate that a folder of images is taken to have."""


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


@dataclass(frozen=True)
class VideoFrame:
    """One picture of a video."""

    time: float
    """Seconds from the first frame of the file."""
    rgb: UInt8[np.ndarray, "rows columns 3"]


def require(module: str) -> Any:
    """Import a module of the `track` extra.

    Raises:
        SubjectError: it is not installed; names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SubjectError(module, "tracking needs this package", found=error, hint=INSTALL_HINT) from error


def read_frames(path: Path, selection: Selection) -> Iterator[VideoFrame]:
    """The wanted frames of a video file or of a folder of images.

    A file that breaks off gives the frames before the break.

    Raises:
        SubjectError: nothing there, no video in the file, or not one frame that can be decoded.
    """
    path = Path(path)
    require_readable(path)
    frames = _read_folder(path) if path.is_dir() else _read_file(path)
    taken = 0
    for frame in _select(frames, selection):
        taken += 1
        yield frame
    if taken == 0:
        raise SubjectError(path, "no frame in the chosen part of the video", expected=selection)


def require_readable(path: Path) -> None:
    """Check that there is a file with something in it, or a folder.

    Raises:
        SubjectError: there is neither.
    """
    if not path.exists():
        raise SubjectError(path, "the video does not exist")
    if not path.is_dir():
        require_file(path)


def estimate_count(path: Path, selection: Selection) -> int | None:
    """About how many frames `read_frames` will give, from the container's word; None where it does not say."""
    path = Path(path)
    if path.is_dir():
        seconds, fps = len(_images_of(path)) / _FOLDER_FPS, _FOLDER_FPS
    else:
        av = require("av")
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                seconds = float(container.duration or 0) / 1e6
                fps = float(stream.average_rate or 0)
        except (av.FFmpegError, OSError, IndexError):
            return None
    if seconds <= 0 or fps <= 0:
        return None
    seconds = max(0.0, min(seconds, selection.end or seconds) - selection.start)
    count = round(seconds * min(fps, selection.fps or fps))
    return min(count, selection.max_frames or count)


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


def _read_file(path: Path) -> Iterator[VideoFrame]:
    av = require("av")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise SubjectError(path, "not a video that can be opened", found=error) from error
    with container:
        if not container.streams.video:
            raise SubjectError(path, "the file has no video", found=[s.type for s in container.streams] or "no stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        decoded, first = 0, 0.0
        frames = container.decode(stream)
        while True:
            try:
                frame = next(frames)
            except StopIteration:
                break
            except (av.FFmpegError, OSError) as error:
                if decoded == 0:
                    raise SubjectError(path, "no frame can be decoded", found=error) from error
                break
            if frame.is_corrupt:
                continue
            fallback = decoded / float(stream.average_rate or _FOLDER_FPS)
            time = float(frame.time) if frame.time is not None else first + fallback
            first = time if decoded == 0 else first
            decoded += 1
            yield VideoFrame(time - first, _upright(frame.to_ndarray(format="rgb24"), frame.rotation))
        if decoded == 0:
            raise SubjectError(path, "no frame can be decoded", found="an empty video stream")


def _upright(rgb: np.ndarray, rotation: int) -> np.ndarray:
    """Undo the rotation tag: the container says by how many degrees a picture is to be turned counter-clockwise."""
    return np.ascontiguousarray(np.rot90(rgb, round(rotation / 90) % 4))


def _images_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)


def _read_folder(folder: Path) -> Iterator[VideoFrame]:
    from PIL import Image, ImageOps

    paths = _images_of(folder)
    if not paths:
        raise SubjectError(folder, "no image in this folder", expected=" ".join(IMAGE_SUFFIXES))
    size = None
    for index, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                rgb = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except OSError as error:
            raise SubjectError(path, "the image cannot be read", found=error) from error
        size = size or rgb.shape
        if rgb.shape != size:
            raise SubjectError(path, "all images must be of one size", expected=size[:2], found=rgb.shape[:2])
        yield VideoFrame(index / _FOLDER_FPS, rgb)
