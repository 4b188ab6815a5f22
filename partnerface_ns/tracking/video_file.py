"""A video file: which of its streams is the video, and its frames as they are to be shown.

What the file says about turning, pixel shape, fields and colours is followed; what was done is told.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.tracking.decoding import Decoder
from partnerface_ns.tracking.frame import FOLDER_FPS, Note, VideoFrame, require
from partnerface_ns.tracking.frame_filter import FrameFilter
from partnerface_ns.tracking.orientation import display_matrix, nearest_quarter_turn, show

_MANY = 0.5
"""A stream with fewer packets than this share of another's is no video: a cover or images of chapters."""
_MISSING_SECONDS = 0.25
"""A file breaks off if it ends this much before the time that it announces."""


@dataclass(frozen=True)
class Length:
    """What a file announces about itself; None where it does not say."""

    seconds: float | None
    fps: float | None
    longer_side: int | None
    """Pixels of the stored frame's longer side."""


def length_of_file(path: Path) -> Length:
    """What a file announces, without decoding it.

    Raises:
        InputError: not a video that can be opened, or no video in it.
    """
    with _opened(path) as (container, stream):
        seconds = float(container.duration) / 1e6 if container.duration else None
        size = (stream.codec_context.width, stream.codec_context.height)
        return Length(seconds, float(stream.average_rate or 0) or None, max(size) or None)


def read_file(path: Path, note: Note) -> Generator[VideoFrame, None, None]:
    """All whole frames of a video file.

    Args:
        path: the file.
        note: is told what was converted, inferred or left out.

    Raises:
        InputError: not a video that can be opened, no video in it, or not one frame that can be decoded.
    """
    with _opened(path, note) as (container, stream):
        decoder, filters = Decoder(container, stream), FrameFilter(path, stream, note)
        turner, first, count = _Turner(note), None, 0
        try:
            for frame in _filtered(decoder, filters):
                time = float(frame.time) if frame.time is not None else count / float(stream.average_rate or FOLDER_FPS)
                first = time if first is None else first
                count += 1
                yield VideoFrame.of(time - first, turner(frame))
            if count:
                _tell_of_break(decoder, container, stream, note)
        finally:
            if first is not None:
                _tell_of_damage(decoder, first, note)
    if count == 0:
        found = decoder.error or f"{len(decoder.left_out)} damaged frames"
        raise InputError(path, "no frame can be decoded", found=shorten(found))


def _filtered(decoder: Decoder, filters: FrameFilter) -> Iterator[Any]:
    for frame in decoder:
        yield from filters.push(frame)
    yield from filters.flush()


class _Turner:
    """Pixels of filtered frames, turned and mirrored as the file says."""

    def __init__(self, note: Note) -> None:
        self._note, self._told = note, False

    def __call__(self, frame: Any) -> np.ndarray:
        matrix = display_matrix(frame)
        turn = nearest_quarter_turn(matrix)
        if not self._told:
            self._told = True
            if np.linalg.det(turn) < 0:
                self._note("The file says that the video is to be shown mirrored: it was mirrored.")
            if np.abs(matrix - turn).max() > 0.1:
                self._note("The file turns the video by an odd angle: it was turned to the nearest quarter.")
        return show(frame.to_ndarray(), turn)


def _tell_of_damage(decoder: Decoder, first: float, note: Note) -> None:
    """Say how many frames were left out, and from when on."""
    num_damaged = len(decoder.left_out) - decoder.cut_off
    if num_damaged > 0:
        times = [time for time in decoder.left_out.values() if time is not None]
        place = f", the first at {max(min(times) - first, 0.0):.2f} s" if times else ""
        note(f"{num_damaged} of {decoder.num_packets} frames are damaged and were left out{place}.")


def _tell_of_break(decoder: Decoder, container: Any, stream: Any, note: Note) -> None:
    """Say whether a file that was read to its end holds less than it announces."""
    seconds = (container.duration or 0) / 1e6
    whole = decoder.num_packets - decoder.cut_off
    announced = stream.frames or round(seconds * float(stream.average_rate or 0))
    if decoder.cut_off or seconds - decoder.end > _MISSING_SECONDS:
        note(f"The file breaks off after {whole}{f' of {announced}' if announced > whole else ''} frames.")
    elif stream.frames > whole and "mov" not in container.format.name:  # a trimmed mov counts what it does not show
        note(f"{stream.frames - whole} of {stream.frames} frames are missing in the file.")


@contextmanager
def _opened(path: Path, note: Note | None = None) -> Iterator[tuple[Any, Any]]:
    """The container and the stream that is the video."""
    av = require("av")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        hint = None
        if path.suffix.lower() in (".mp4", ".mov", ".m4v"):
            hint = "a file that was copied only in part cannot be opened: its index is at its end"
        reason = shorten(error.strerror or error)
        raise InputError(path, "not a video that can be opened", found=reason, hint=hint) from error
    with container:
        yield container, _video_stream(path, container, note)


def _video_stream(path: Path, container: Any, note: Note | None) -> Any:
    """The stream with the most pixels among those that are no still images."""
    streams = [s for s in container.streams.video if s.codec_context is not None and not _is_attached(s)]
    if not streams:
        kinds = ", ".join(dict.fromkeys(stream.type for stream in container.streams)) or "no stream"
        raise InputError(path, "the file has no video", expected="a video stream", found=kinds)
    if len(streams) == 1:
        return streams[0]
    packets = _count_packets(path, [stream.index for stream in streams])
    most = max(packets.values())
    moving = [stream for stream in streams if packets[stream.index] > _MANY * most]
    best = max(moving, key=lambda s: (s.codec_context.width * s.codec_context.height, packets[s.index], -s.index))
    if note is not None:
        size = f"{best.codec_context.width} x {best.codec_context.height}"
        note(f"The file holds {len(streams)} video streams: number {best.index} was taken, the largest ({size}).")
    return best


def _is_attached(stream: Any) -> bool:
    return bool(stream.disposition & type(stream.disposition).attached_pic)


def _count_packets(path: Path, indices: list[int]) -> dict[int, int]:
    """Packets of each stream; the file is read once, nothing is decoded."""
    av = require("av")
    counts = dict.fromkeys(indices, 0)
    with av.open(str(path), metadata_errors="replace") as container:
        try:
            for packet in container.demux():
                if packet.stream_index in counts and packet.size:
                    counts[packet.stream_index] += 1
        except (av.FFmpegError, OSError):
            pass  # what comes after the damage is counted for no stream
    return counts
