"""The UDP stream of Live Link Face: one packet a frame, with ARKit's blendshapes and the angles of head and eyes.

A packet contains, with big-endian numbers:

    version (byte, 6), device (string), subject (string), frame number (int32), part of a frame (float32),
    frame rate as numerator and denominator (int32 each), number of values (byte, 61), values (float32 each)

A string is its length in bytes (int32) and its UTF-8 text. While the app sees no face, a packet ends after the subject,
or its number of values is 0. Values are named and used like the columns of the app's recordings (`recording.py`).
"""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from partnerface_ns.common.errors import InputError
from partnerface_ns.driving.recording import channel_columns

VALUES = (
    "EyeBlinkLeft", "EyeLookDownLeft", "EyeLookInLeft", "EyeLookOutLeft", "EyeLookUpLeft", "EyeSquintLeft",
    "EyeWideLeft", "EyeBlinkRight", "EyeLookDownRight", "EyeLookInRight", "EyeLookOutRight", "EyeLookUpRight",
    "EyeSquintRight", "EyeWideRight", "JawForward", "JawLeft", "JawRight", "JawOpen", "MouthClose", "MouthFunnel",
    "MouthPucker", "MouthLeft", "MouthRight", "MouthSmileLeft", "MouthSmileRight", "MouthFrownLeft", "MouthFrownRight",
    "MouthDimpleLeft", "MouthDimpleRight", "MouthStretchLeft", "MouthStretchRight", "MouthRollLower", "MouthRollUpper",
    "MouthShrugLower", "MouthShrugUpper", "MouthPressLeft", "MouthPressRight", "MouthLowerDownLeft",
    "MouthLowerDownRight", "MouthUpperUpLeft", "MouthUpperUpRight", "BrowDownLeft", "BrowDownRight", "BrowInnerUp",
    "BrowOuterUpLeft", "BrowOuterUpRight", "CheekPuff", "CheekSquintLeft", "CheekSquintRight", "NoseSneerLeft",
    "NoseSneerRight", "TongueOut", "HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll",
    "RightEyeYaw", "RightEyePitch", "RightEyeRoll",
)  # fmt: skip
"""Names of the values, in their order in a packet."""
VERSION = 6
_NUM_SHAPES = 52
_MAX_WEIGHT, _MAX_ANGLE = 2.0, 2 * math.pi
"""Largest blendshape (the app does not exceed 1 by much) and largest angle, radians."""
_MAX_STRING = 1024
"""Largest length of a string, bytes."""
_FRAME = struct.Struct(">ifii")
_NUMBERS = struct.Struct(f">{len(VALUES)}f")
_MAX_PACKET = 65536
_MAX_WAITING = 10000
"""Packets after which `drop_waiting` stops, more than a socket stores."""
_PATIENCE = 0.2
"""Seconds after which a wait for packets checks whether it should end."""


class PacketError(ValueError):
    """A packet that is not one of Live Link Face. The message says why."""


@dataclass(frozen=True)
class Packet:
    """One frame of the stream."""

    subject: str
    """Name of the device, as set in the app."""
    frame_number: int | None
    """Frame number at `fps`; None if the packet has none."""
    fps: float | None
    """Frames per second that the app counts; None if the packet has none."""
    channels: dict[str, float] | None
    """Values by channel of `rig.py`: blendshapes, and the head's angles in radians; None without a face."""


def parse_packet(data: bytes) -> Packet:
    """Parse a packet.

    Raises:
        PacketError: the version, a length, the number of values or a value is wrong.
    """
    if not data or data[0] != VERSION:
        raise PacketError(f"version {data[0] if data else 'missing'} instead of {VERSION}")
    _, start = _string(data, 1, "device")
    subject, start = _string(data, start, "subject")
    if start == len(data):
        return Packet(subject, None, None, None)
    if len(data) < start + _FRAME.size + 1:
        raise PacketError(f"{len(data)} bytes: the packet breaks off in its frame time")
    number, part, numerator, denominator = _FRAME.unpack_from(data, start)
    if not (0 <= part < 1 and numerator > 0 and denominator > 0):
        raise PacketError(f"frame part {part:g} at {numerator}/{denominator} frames per second")
    count, values = data[start + _FRAME.size], data[start + _FRAME.size + 1 :]
    if count == 0 and not values:
        return Packet(subject, number, numerator / denominator, None)
    if count != len(VALUES) or len(values) != _NUMBERS.size:
        raise PacketError(f"{count} values in {len(values)} bytes instead of {len(VALUES)} in {_NUMBERS.size}")
    return Packet(subject, number, numerator / denominator, _channels(_NUMBERS.unpack(values)))


def _string(data: bytes, start: int, name: str) -> tuple[str, int]:
    """A string of a packet, and where it ends."""
    if len(data) < start + 4:
        raise PacketError(f"{len(data)} bytes: the packet breaks off before its {name}")
    (length,) = struct.unpack_from(">i", data, start)
    end = start + 4 + length
    if not 0 <= length <= _MAX_STRING or len(data) < end:
        raise PacketError(f"the {name}'s length is {length}")
    try:
        return data[start + 4 : end].decode(), end
    except UnicodeDecodeError:
        raise PacketError(f"the {name} is not text") from None


def _channels(values: tuple[float, ...]) -> dict[str, float]:
    for name, value, limit in zip(VALUES, values, _LIMITS, strict=True):
        if not abs(value) <= limit:  # also NaN
            raise PacketError(f"{name} is {value:g}")
    return {channel: values[index] for channel, index in _COLUMNS}


_LIMITS = (_MAX_WEIGHT,) * _NUM_SHAPES + (_MAX_ANGLE,) * (len(VALUES) - _NUM_SHAPES)
_COLUMNS = tuple((column.channel, column.index) for column in channel_columns(VALUES))


@dataclass(frozen=True)
class ArrivedPacket:
    """A valid packet and its arrival."""

    index: int
    """Number of valid packets that arrived before."""
    time: float
    """Seconds on the clock of the receiver."""
    packet: Packet


class LiveLinkReceiver:
    """Receives the stream at a UDP port; iterating yields the valid packets."""

    def __init__(self, port: int, host: str = "0.0.0.0", clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            port: UDP port that the app sends to; 0 takes any free port.
            host: address of this machine that receives; 0.0.0.0 receives at all of them.
            clock: the current time in seconds.

        Raises:
            InputError: the port is out of range or in use.
        """
        if not 0 <= port <= 65535:
            raise InputError("--livelink", "out of range", expected="0 to 65535; the app sends to 11111", actual=port)
        self._socket, self._clock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), clock
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            hint = "close the other program that receives the stream, or set another port here and in the app"
            expected = "a free UDP port"
            actual = f"{port}: {error.strerror}"
            raise InputError(
                "--livelink", "the port cannot be used", expected=expected, actual=actual, hint=hint
            ) from error
        self._socket.settimeout(_PATIENCE)
        self.port: int = self._socket.getsockname()[1]
        self.num_bad = 0
        """Number of packets that were not valid."""
        self.last_problem: str | None = None
        """Why the last packet that was not valid was refused."""
        self._is_closed = False

    def __iter__(self) -> Iterator[ArrivedPacket]:
        """Yield valid packets until `close` is called."""
        index = 0
        while not self._is_closed:
            try:
                data = self._socket.recv(_MAX_PACKET)
            except TimeoutError:
                continue
            except OSError:
                if self._is_closed:
                    return
                raise
            try:
                packet = parse_packet(data)
            except PacketError as problem:
                self.num_bad += 1
                self.last_problem = str(problem)
                continue
            yield ArrivedPacket(index, self._clock(), packet)
            index += 1

    def drop_waiting(self) -> None:
        """Drop the packets that arrived before this call."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(_MAX_WAITING):
                self._socket.recv(_MAX_PACKET)
        self._socket.settimeout(_PATIENCE)

    def close(self) -> None:
        """Free the port. An iteration in another thread ends soon after."""
        self._is_closed = True
        self._socket.close()


def channel_curves(packet: Packet) -> dict[str, np.ndarray]:
    """The channels of a packet with a face as curves of one frame, for `Rig.states`."""
    assert packet.channels is not None
    return {name: np.array([value]) for name, value in packet.channels.items()}
