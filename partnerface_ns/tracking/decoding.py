"""Decoding a video stream that may be damaged: whole frames only, wherever the damage lies.

A damaged frame spoils those that refer to it, so frames are left out from the damage on until the next key frame. The
packet before one that cannot be decoded is not trusted either: damage in a file is a stretch of bytes, and the end of
a frame can be garbage that decodes. Frames are told apart by their presentation time, because decoders reorder them.
Decoding is single-threaded, so that an error belongs to the packet at hand and every pass gives the same frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from partnerface_ns.tracking.frame import require

_MAX_FAILURES = 20
"""Errors of the container in a row after which reading ends."""
_HARMLESS = "mmco:"
"""Beginning of complaints about the order in which references are given up: a video that was trimmed without encoding
it anew has them, and its frames are whole."""


class Decoder:
    """Decodes one stream of an open container, from its beginning."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._av = require("av")
        self._container, self._stream = container, stream
        self._codec = _codec_for(self._av, stream)
        self._codec.thread_type, self._codec.thread_count = "NONE", 1
        self.num_packets = 0
        """Frames of the stream that are in the file, damaged ones included."""
        self.end = 0.0
        """Seconds at which the last packet of any stream ends, by the file's clock."""
        self.cut_off = False
        """Whether the stream's last packet is incomplete."""
        self.left_out: dict[object, float | None] = {}
        """Damaged frames: presentation time in units of the stream (the packet, where it has none), and in seconds."""
        self.error: Exception | None = None
        """The first error."""

    def __iter__(self) -> Iterator[Any]:
        """Whole frames in order of presentation."""
        waiting: list[Any] = []
        previous, broken, leading_until = None, False, None
        for packet in self._packets():
            if packet.is_keyframe:
                # Frames that are shown before a key frame but stored after it refer to what was before it.
                leading_until, broken = _time(packet) if broken else None, False
            frames, sound = self._decode(packet)
            if not sound:
                broken = True
                if previous is not None and not packet.is_corrupt:
                    self._leave_out(previous)
            if broken or _is_before(packet, leading_until):
                self._leave_out(packet)
            yield from self._whole(waiting)
            waiting, previous = frames, packet
        yield from self._whole(waiting + self._rest())

    def _packets(self) -> Iterator[Any]:
        """The stream's packets; an error of the container is stepped over."""
        packets, failures = self._container.demux(), 0
        while failures < _MAX_FAILURES:
            try:
                packet = next(packets, None)
            except (self._av.FFmpegError, OSError) as error:
                self.error = self.error or error
                packets, failures = self._container.demux(), failures + 1
                continue
            if packet is None:
                return
            failures = 0
            if packet.size == 0 and packet.dts is None:  # marks the end
                continue
            if _time(packet) is not None:
                self.end = max(self.end, float((_time(packet) + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index == self._stream.index:
                self.num_packets, self.cut_off = self.num_packets + 1, packet.is_corrupt
                yield packet

    def _decode(self, packet: Any) -> tuple[list[Any], bool]:
        """Frames that become ready with a packet, and whether it is sound."""
        if packet.is_corrupt:  # by the word of the container: incomplete, or packets are missing
            return [], False
        try:
            with self._logged_errors() as errors:
                frames = self._codec.decode(packet)
        except (self._av.FFmpegError, OSError) as error:
            self.error = self.error or error
            return [], False
        return frames, all(message.startswith(_HARMLESS) for _, _, message in errors)

    def _rest(self) -> list[Any]:
        """Frames that the decoder still holds at the end."""
        try:
            return self._codec.decode(None)
        except (self._av.FFmpegError, OSError):
            return []

    def _whole(self, frames: list[Any]) -> Iterator[Any]:
        for frame in frames:
            if frame.is_corrupt:
                self.left_out[frame.pts] = frame.time
            elif frame.pts not in self.left_out:
                yield frame

    def _leave_out(self, packet: Any) -> None:
        time = _time(packet)
        if time is None:
            self.left_out[packet] = None
        else:
            self.left_out[time] = float(time * packet.time_base)

    @contextmanager
    def _logged_errors(self) -> Iterator[list[Any]]:
        """What the decoder complains about: it conceals damage inside a frame and says so nowhere else."""
        log = self._av.logging
        level, skip_repeated = log.get_level(), log.get_skip_repeated()
        log.set_level(log.ERROR)
        log.set_skip_repeated(False)
        try:
            with log.Capture(local=True) as lines:
                yield lines
        finally:
            log.set_level(level)
            log.set_skip_repeated(skip_repeated)


def _time(packet: Any) -> Any:
    """When a packet's frame is shown, in units of its stream; None in files without times."""
    return packet.pts if packet.pts is not None else packet.dts


def _is_before(packet: Any, time: Any) -> bool:
    return time is not None and _time(packet) is not None and _time(packet) < time


def _codec_for(av: Any, stream: Any) -> Any:
    """The decoder of a stream; ffmpeg's own for VP8 and VP9 ignores alpha, that of libvpx reads it."""
    name = stream.codec_context.name
    if stream.metadata.get("alpha_mode") == "1" and f"libvpx-{name}" in av.codecs_available:
        return av.CodecContext.create(f"libvpx-{name}", "r")
    return stream.codec_context
