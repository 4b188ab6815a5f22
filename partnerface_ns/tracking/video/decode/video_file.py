"""Reads a video file: chooses its video stream, and yields the frames as a player shows them.

The file's statements on rotation, pixel shape, interlacing and colours are applied and reported.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.tracking.video.decode.decoder import Decoder
from partnerface_ns.tracking.video.decode.frame import FOLDER_FPS, Note, VideoFrame
from partnerface_ns.tracking.video.decode.frame_filter import FrameFilter
from partnerface_ns.tracking.video.decode.orientation import apply_turn, display_matrix, nearest_quarter_turn
from partnerface_ns.tracking.video.packages import require

_MIN_PACKET_SHARE = 0.5
"""A stream with fewer packets than this share of the largest is a cover or a set of chapter images."""
_MISSING_SECONDS = 0.25
"""A file is truncated if it ends this many seconds before the time that it states."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video states about itself; None if it does not."""

    seconds: float | None
    fps: float | None
    longer_side: int | None
    """Pixels of the stored frame's longer side."""


def file_info(path: Path) -> VideoInfo:
    """Read what a file states, without decoding it.

    Raises:
        InputError: the file cannot be opened, or has no video.
    """
    with _open(path) as (container, stream):
        seconds = float(container.duration) / 1e6 if container.duration else None
        size = (stream.codec_context.width, stream.codec_context.height)
        return VideoInfo(seconds, float(stream.average_rate or 0) or None, max(size) or None)


def read_file(path: Path, note: Note) -> Generator[VideoFrame, None, None]:
    """Yield all intact frames of a video file.

    Args:
        path: the file.
        note: receives sentences about what was converted, inferred or left out.

    Raises:
        InputError: the file cannot be opened, has no video, or no frame can be decoded.
    """
    with _open(path, note) as (container, stream):
        decoder, filters = Decoder(container, stream), FrameFilter(path, stream, note)
        orienter, first, count = _Orienter(note), None, 0
        try:
            for frame in _filtered(decoder, filters):
                time = float(frame.time) if frame.time is not None else count / float(stream.average_rate or FOLDER_FPS)
                first = time if first is None else first
                count += 1
                yield VideoFrame.from_pixels(time - first, orienter(frame))
            if count:
                _note_truncation(decoder, container, stream, note)
        finally:
            if first is not None:
                _note_damage(decoder, first, note)
    if count == 0:
        reason = decoder.error or f"{len(decoder.left_out)} damaged frames"
        raise InputError(path, "no frame can be decoded", actual=shorten(reason))


def _filtered(decoder: Decoder, filters: FrameFilter) -> Iterator[Any]:
    for frame in decoder:
        yield from filters.push(frame)
    yield from filters.flush()


class _Orienter:
    """Returns the pixels of filtered frames, rotated and mirrored as the file states."""

    def __init__(self, note: Note) -> None:
        self._note, self._is_noted = note, False

    def __call__(self, frame: Any) -> UInt8[np.ndarray, "rows columns channels"]:
        matrix = display_matrix(frame)
        turn = nearest_quarter_turn(matrix)
        if not self._is_noted:
            self._is_noted = True
            if np.linalg.det(turn) < 0:
                self._note("The file says that the video is to be shown mirrored: it was mirrored.")
            if np.abs(matrix - turn).max() > 0.1:
                self._note("The file turns the video by an odd angle: it was turned to the nearest quarter.")
        return apply_turn(frame.to_ndarray(), turn)


def _note_damage(decoder: Decoder, first: float, note: Note) -> None:
    """Report how many frames were left out, and the time of the first one."""
    num_damaged = len(decoder.left_out) - decoder.cut_off
    if num_damaged > 0:
        times = [time for time in decoder.left_out.values() if time is not None]
        place = f", the first at {max(min(times) - first, 0.0):.2f} s" if times else ""
        note(f"{num_damaged} of {decoder.num_packets} frames are damaged and were left out{place}.")


def _note_truncation(decoder: Decoder, container: Any, stream: Any, note: Note) -> None:
    """Report a file that was read to its end and holds less than it states."""
    seconds = (container.duration or 0) / 1e6
    num_whole = decoder.num_packets - decoder.cut_off
    announced = stream.frames or round(seconds * float(stream.average_rate or 0))
    if decoder.cut_off or seconds - decoder.end > _MISSING_SECONDS:
        note(f"The file breaks off after {num_whole}{f' of {announced}' if announced > num_whole else ''} frames.")
    elif stream.frames > num_whole and "mov" not in container.format.name:  # a trimmed mov counts hidden frames too
        note(f"{stream.frames - num_whole} of {stream.frames} frames are missing in the file.")


@contextmanager
def _open(path: Path, note: Note | None = None) -> Iterator[tuple[Any, Any]]:
    """Open the container and choose its video stream."""
    av = require("av")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        hint = None
        if path.suffix.lower() in (".mp4", ".mov", ".m4v"):
            hint = "the index is at the end of the file: a file that was copied only in part cannot be opened"
        reason = shorten(error.strerror or error)
        raise InputError(path, "not a video that can be opened", actual=reason, hint=hint) from error
    with container:
        yield container, _video_stream(path, container, note)


def _video_stream(path: Path, container: Any, note: Note | None) -> Any:
    """The stream with the most pixels, except for still images."""
    streams = [s for s in container.streams.video if s.codec_context is not None and not _is_attached(s)]
    if not streams:
        kinds = ", ".join(dict.fromkeys(stream.type for stream in container.streams)) or "no stream"
        raise InputError(path, "the file has no video", expected="a video stream", actual=kinds)
    if len(streams) == 1:
        return streams[0]
    packets = _count_packets(path, [stream.index for stream in streams])
    most = max(packets.values())
    moving = [stream for stream in streams if packets[stream.index] > _MIN_PACKET_SHARE * most]
    best = max(moving, key=lambda s: (s.codec_context.width * s.codec_context.height, packets[s.index], -s.index))
    if note is not None:
        size = f"{best.codec_context.width} x {best.codec_context.height}"
        note(f"The file holds {len(streams)} video streams: number {best.index} was taken, the largest ({size}).")
    return best


def _is_attached(stream: Any) -> bool:
    return bool(stream.disposition & type(stream.disposition).attached_pic)


def _count_packets(path: Path, indices: list[int]) -> dict[int, int]:
    """Count the packets of each stream. The file is read once; nothing is decoded."""
    av = require("av")
    counts = dict.fromkeys(indices, 0)
    with av.open(str(path), metadata_errors="replace") as container:
        try:
            for packet in container.demux():
                if packet.stream_index in counts and packet.size:
                    counts[packet.stream_index] += 1
        except (av.FFmpegError, OSError):
            pass  # packets after the damage are not counted
    return counts
