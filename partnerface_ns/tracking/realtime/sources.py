"""Frames that arrive in real time: of a camera, or of a video that is played like one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from partnerface_ns.common.errors import InputError
from partnerface_ns.tracking.video.decode.reading import Selection, read_frames
from partnerface_ns.tracking.video.packages import require

_MAX_FAILURES = 30
"""Successive images that a camera may fail to deliver."""


@dataclass(frozen=True)
class CameraFrame:
    """A frame and its arrival."""

    index: int
    """Number of frames that arrived before."""
    time: float
    """Seconds on the clock of the source."""
    rgb: UInt8[np.ndarray, "rows columns 3"]


def play_video(
    video: Path, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> Iterator[CameraFrame]:
    """Yield the frames of a video at their times, as a camera would.

    A frame arrives at its time in the video, even if decoding takes longer.

    Args:
        video: a file that ffmpeg decodes.
        clock: the current time in seconds.
        sleep: waits for a number of seconds.

    Raises:
        InputError: the video cannot be read.
    """
    began = None
    for index, frame in enumerate(read_frames(video, Selection())):
        began = clock() - frame.time if began is None else began
        sleep(max(0.0, began + frame.time - clock()))
        yield CameraFrame(index, began + frame.time, frame.rgb)


class Camera:
    """A camera of this machine; iterating yields its frames."""

    def __init__(self, index: int, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            index: 0 is the first camera.
            clock: the current time in seconds.

        Raises:
            InputError: there is no such camera, or it cannot be opened.
        """
        self._name, self._clock = f"--camera {index}", clock
        self._cv2 = require("cv2")
        self._cv2.setLogLevel(0)  # OpenCV's own warnings would precede the error
        self._capture: Any = self._cv2.VideoCapture(index) if index >= 0 else None
        if self._capture is None or not self._capture.isOpened() or not self._capture.read()[0]:
            devices = sorted(str(path) for path in Path("/dev").glob("video*"))
            raise InputError(
                self._name,
                "the camera does not open",
                expected="the index of a camera: 0 is the first",
                actual=", ".join(devices) or "no /dev/video* on this machine",
                hint="try another index, close other programs that use the camera, or join the group `video`",
            )

    def __iter__(self) -> Iterator[CameraFrame]:
        """Yield frames until the camera fails.

        Raises:
            InputError: the camera delivers no more images.
        """
        index = failures = 0
        while failures < _MAX_FAILURES:
            is_read, bgr = self._capture.read()
            if not is_read:
                failures += 1
                continue
            failures = 0
            yield CameraFrame(index, self._clock(), self._cv2.cvtColor(bgr, self._cv2.COLOR_BGR2RGB))
            index += 1
        raise InputError(self._name, "the camera delivers no more images", hint="is it still connected?")
