"""Decodes a video stream that may be damaged, and yields intact frames only.

Other frames refer to a damaged frame, so frames are left out from the damage to the next key frame. The packet before
one that cannot be decoded is left out too: damage covers a range of bytes, and a frame with a damaged end can still
decode. Frames are identified by their presentation time, because decoders reorder them. Decoding is single-threaded, so
that an error belongs to the current packet and every pass gives the same frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from partnerface_ns.tracking.video.packages import require

_MAX_FAILURES = 20
"""Number of successive errors of the container after which reading ends."""
_HARMLESS = "mmco:"
"""Prefix of log messages about reference management. Videos that were trimmed without re-encoding cause them; their
frames are intact."""


class Decoder:
    """Decodes one stream of an open container, from its beginning."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._av = require("av")
        self._container, self._stream = container, stream
        self._codec = _codec_for(self._av, stream)
        self._codec.thread_type, self._codec.thread_count = "NONE", 1
        self.num_packets = 0
        """Number of frames of the stream in the file, including damaged ones."""
        self.end = 0.0
        """Time at which the last packet of any stream ends, seconds on the file's clock."""
        self.cut_off = False
        """Whether the stream's last packet is incomplete."""
        self.left_out: dict[object, float | None] = {}
        """Damaged frames: presentation time in units of the stream (or the packet, if it has none) to seconds."""
        self.error: Exception | None = None
        """The first error."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the intact frames in order of presentation."""
        waiting: list[Any] = []
        previous, broken, leading_until = None, False, None
        for packet in self._packets():
            if packet.is_keyframe:
                # Frames stored after a key frame but shown before it refer to frames before it.
                leading_until, broken = _time(packet) if broken else None, False
            frames, intact = self._decode(packet)
            if not intact:
                broken = True
                if previous is not None and not packet.is_corrupt:
                    self._leave_out(previous)
            if broken or _is_before(packet, leading_until):
                self._leave_out(packet)
            yield from self._intact(waiting)
            waiting, previous = frames, packet
        yield from self._intact(waiting + self._flush())

    def _packets(self) -> Iterator[Any]:
        """Yield the packets of the stream; reading continues after an error of the container."""
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
            if packet.size == 0 and packet.dts is None:  # end of stream
                continue
            if _time(packet) is not None:
                self.end = max(self.end, float((_time(packet) + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index == self._stream.index:
                self.num_packets, self.cut_off = self.num_packets + 1, packet.is_corrupt
                yield packet

    def _decode(self, packet: Any) -> tuple[list[Any], bool]:
        """Decode a packet; returns the frames that are ready, and whether the packet is intact."""
        if packet.is_corrupt:  # the container reports it incomplete, or packets are missing
            return [], False
        try:
            with self._logged_errors() as errors:
                frames = self._codec.decode(packet)
        except (self._av.FFmpegError, OSError) as error:
            self.error = self.error or error
            return [], False
        return frames, all(message.startswith(_HARMLESS) for _, _, message in errors)

    def _flush(self) -> list[Any]:
        """Return the frames that the decoder still holds at the end."""
        try:
            return self._codec.decode(None)
        except (self._av.FFmpegError, OSError):
            return []

    def _intact(self, frames: list[Any]) -> Iterator[Any]:
        """Yield those of some frames that are not left out."""
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
        """Capture the decoder's error log, the only place where it reports damage that it concealed."""
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
    """Presentation time of a packet in units of its stream; None if the file has no times."""
    return packet.pts if packet.pts is not None else packet.dts


def _is_before(packet: Any, time: Any) -> bool:
    return time is not None and _time(packet) is not None and _time(packet) < time


def _codec_for(av: Any, stream: Any) -> Any:
    """The decoder of a stream. ffmpeg's own decoders of VP8 and VP9 ignore alpha; those of libvpx read it."""
    name = stream.codec_context.name
    if stream.metadata.get("alpha_mode") == "1" and f"libvpx-{name}" in av.codecs_available:
        return av.CodecContext.create(f"libvpx-{name}", "r")
    return stream.codec_context
