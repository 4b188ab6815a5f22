"""What drives an avatar live: a face in front of a camera, or a stream of Live Link Face.

Each source turns an arrival (a frame or a packet) into a `LiveFrame`. `LiveFrames` does this in two threads, one that
receives and one that tracks. Each passes on only the newest item, so whatever comes too fast is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8

from partnerface_ns.common.newest import Newest
from partnerface_ns.driving.livelink import ArrivedPacket, channel_curves
from partnerface_ns.driving.motion import DEFAULT_FPS, Motion, motion_of_channels
from partnerface_ns.driving.rig import Rig
from partnerface_ns.driving.skulls import Skulls, skull_pose, skull_poses
from partnerface_ns.flame.state import HeadState
from partnerface_ns.tracking.realtime.calibration import Calibration
from partnerface_ns.tracking.realtime.sources import CameraFrame
from partnerface_ns.tracking.realtime.tracker import CALIBRATION_SECONDS, Phase, RealtimeTracker, TrackedFrame

_SIDE_IN_FACES = 2.2
"""Side of the shown part of a camera's frame, in heights of the landmarks."""


@dataclass(frozen=True)
class LiveFrame:
    """What arrived, and the motion in it."""

    index: int
    """Number of arrivals before."""
    time: float
    """Seconds on the clock of the source at which it arrived."""
    motion: Motion | None
    """A motion of one frame; None without a face, and before the person is measured."""
    image: UInt8[np.ndarray, "rows columns 3"] | None
    """The part of the source's image that is shown beside the avatar, if there is one."""
    message: str | None
    """What to tell the person; None while the face is followed."""
    is_ready: bool = True
    """Whether the measurement of the person is over."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds of work by stage."""


class TrackedFace:
    """The face in front of a camera."""

    def __init__(self, tracker: RealtimeTracker) -> None:
        self._tracker = tracker
        self._square: tuple[int, int, int] | None = None

    def __call__(self, frame: CameraFrame) -> LiveFrame:
        """Track a frame."""
        tracked = self._tracker(frame)
        motion, calibration = None, self._tracker.calibration
        if calibration is not None and tracked.state is not None:
            motion = _motion(calibration, tracked.state)
        is_ready = tracked.phase is not Phase.MEASURING
        image = self._cut(frame.rgb, tracked)
        return LiveFrame(frame.index, frame.time, motion, image, _message(tracked), is_ready, tracked.seconds)

    def _cut(self, rgb: UInt8[np.ndarray, "rows columns 3"], tracked: TrackedFrame) -> UInt8[np.ndarray, "side side 3"]:
        """The square around the face. It stands still after the measurement, so that movements are visible."""
        if tracked.phase is Phase.MEASURING and tracked.landmarks is not None:
            self._square = face_square(tracked.landmarks[:, :2], rgb.shape)
        rows, columns = rgb.shape[:2]
        side = min(rows, columns)
        x, y, side = self._square or ((columns - side) // 2, (rows - side) // 2, side)
        return rgb[y : y + side, x : x + side]


def face_square(points: Float[np.ndarray, "landmarks 2"], shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Left, top and side of a square around a face inside a frame, whole pixels.

    Args:
        points: the landmarks.
        shape: rows and columns of the frame.
    """
    low, high = points.min(0), points.max(0)
    side = int(min(_SIDE_IN_FACES * (high - low).max(), *shape[:2]))
    corner = np.clip((low + high) / 2 - side / 2, 0, np.array([shape[1], shape[0]]) - side)
    return int(corner[0]), int(corner[1]), side


def _motion(calibration: Calibration, state: HeadState) -> Motion:
    head, states = calibration.person.head, HeadState.stack([state])
    skulls = Skulls(skull_poses(head, states), skull_pose(head, calibration.neutral))
    return Motion(states, calibration.neutral, DEFAULT_FPS, skulls)


def _message(tracked: TrackedFrame) -> str | None:
    if tracked.phase is Phase.TRACKING:
        return None
    if tracked.landmarks is None:
        return "No face is visible"
    if tracked.phase is Phase.LOST:
        return "The face is not visible enough"
    left = (1 - tracked.progress) * CALIBRATION_SECONDS
    return f"Look straight at the camera and keep still: {left:.1f} s"


class LiveLinkFace:
    """The face that Live Link Face sees. Its blendshapes are zero at rest, so nothing is measured."""

    def __init__(self, rig: Rig, port: int, clock: Callable[[], float] = time.perf_counter) -> None:
        """
        Args:
            rig: the rig of the avatar's head model.
            port: the UDP port, for messages.
            clock: time in seconds, for the durations of stages.
        """
        self._rig, self._port, self._clock = rig, port, clock

    def __call__(self, arrived: ArrivedPacket) -> LiveFrame:
        """Read a packet."""
        packet, began = arrived.packet, self._clock()
        if packet.channels is None:
            return LiveFrame(arrived.index, arrived.time, None, None, "Live Link Face sees no face")
        motion = motion_of_channels(channel_curves(packet), DEFAULT_FPS, self._rig, Path(f"port {self._port}"))
        seconds = {"reading": self._clock() - began}
        return LiveFrame(arrived.index, arrived.time, motion, None, None, seconds=seconds)


Arrived = TypeVar("Arrived")


class LiveFrames(Generic[Arrived]):
    """The newest frame of a source, which two threads receive and track.

    Use it as a context, which starts and ends the threads. Inside the context, PyTorch uses one thread fewer if
    tracking needs a core of its own. With all threads, images take longer, because idle threads of PyTorch busy-wait.
    """

    def __init__(
        self, source: Iterable[Arrived], follow: Callable[[Arrived], LiveFrame], reserve_core: bool = False
    ) -> None:
        """
        Args:
            source: blocks until the next arrival.
            follow: tracks an arrival.
            reserve_core: whether tracking needs a core of its own.
        """
        self._reserve_core = reserve_core
        self._source, self._follow = source, follow
        self._arrived, self._followed = Newest[Arrived](), Newest[LiveFrame]()
        self._is_stopped = Event()
        self._num_threads = torch.get_num_threads()
        self._threads = [Thread(target=work, daemon=True) for work in (self._receive, self._track)]

    def __enter__(self) -> LiveFrames[Arrived]:
        if self._reserve_core:
            torch.set_num_threads(max(1, self._num_threads - 1))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads. A thread that still waits for its source ends with the program."""
        self._is_stopped.set()
        self._arrived.close()
        self._threads[1].join(timeout=5.0)
        torch.set_num_threads(self._num_threads)  # a thread's own setting is also the default of later threads

    def take(self, patience: float | None = None) -> LiveFrame | None:
        """Wait for a frame that was not taken yet and return the newest; None at the end of the source.

        Args:
            patience: the longest wait in seconds; None waits without end.

        Raises:
            TimeoutError: no frame came in this time.
            Exception: an error of the source or of tracking.
        """
        return self._followed.take(patience)

    def _receive(self) -> None:
        try:
            for item in self._source:
                if self._is_stopped.is_set():
                    break
                self._arrived.put(item)
        except Exception as error:
            self._arrived.close(error)
        self._arrived.close()

    def _track(self) -> None:
        torch.set_num_threads(1)  # these operations are too small to divide, and the renderer needs the other cores
        try:
            while (item := self._arrived.take()) is not None:
                self._followed.put(self._follow(item))
        except Exception as error:
            self._followed.close(error)
        self._followed.close()
