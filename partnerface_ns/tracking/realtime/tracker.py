"""The tracker of a live video: it measures the person first, then follows the face.

The landmarks are detected around the last face, else in the whole frame. After the face was lost, tracking continues
with the first frame that shows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.state import HeadState
from partnerface_ns.tracking.fit.embedding import landmark_embedding
from partnerface_ns.tracking.fit.fit_head import reduce_head
from partnerface_ns.tracking.realtime.calibration import Calibration, calibrate
from partnerface_ns.tracking.realtime.frame_fit import FrameFit
from partnerface_ns.tracking.realtime.landmark_energy import LandmarkEnergy
from partnerface_ns.tracking.realtime.sources import CameraFrame
from partnerface_ns.tracking.video.landmarks import FaceMeshDetector

CALIBRATION_SECONDS = 2.0
"""Time in which the person looks straight at the camera and keeps still."""
_MIN_FRAMES, _MAX_FRAMES = 6, 16
"""Smallest and largest number of frames that the person is measured in."""
_MAX_PAUSE = 0.5
"""Seconds without a face after which the measurement starts again."""
_MAX_ERROR = 8.0
"""Median error of the landmarks, pixels at 512, above which they are not of this face."""
EXPECTED_FOCAL = 1.6
"""Expected focal length in longer sides of the frame, as in `partnerface track`."""


class Phase(Enum):
    """What the tracker does with a frame."""

    MEASURING = "measuring"
    TRACKING = "tracking"
    LOST = "lost"


@dataclass(frozen=True)
class TrackedFrame:
    """A frame and the head state in it."""

    frame: CameraFrame
    phase: Phase
    state: HeadState | None
    """Batch axes (); None unless the phase is TRACKING."""
    landmarks: Float[np.ndarray, "landmarks 3"] | None
    """The detected landmarks, pixels of the frame; None without a face."""
    progress: float
    """Share of the measurement that is done, in [0, 1]."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds by stage."""


class RealtimeTracker:
    """Tracks one face in successive frames."""

    def __init__(
        self,
        model: HeadModel,
        detector: Callable[[UInt8[np.ndarray, "rows columns 3"]], Float[np.ndarray, "landmarks 3"] | None]
        | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """
        Args:
            model: the head model to fit.
            detector: finds the landmarks of a face; None uses MediaPipe's network.
            clock: time in seconds, for the durations of stages.
        """
        embedding = landmark_embedding(model)
        self._energy = LandmarkEnergy(reduce_head(model, embedding), embedding.spread)
        self._mesh = FaceMeshDetector(far=True) if detector is None else None
        self._detector, self._clock = detector or self._detect, clock
        self._calm: list[tuple[float, Tensor]] = []
        self._last: tuple[float, HeadState] | None = None
        self._fit: FrameFit | None = None
        self.calibration: Calibration | None = None
        """The person; None until they are measured."""

    @torch.no_grad()
    def __call__(self, frame: CameraFrame) -> TrackedFrame:
        """Track the next frame. Frames may be missing between calls."""
        began = self._clock()
        landmarks = self._detector(frame.rgb)
        detected = self._clock()
        phase, state = self._follow(frame, landmarks)
        seconds = {"landmarks": detected - began, "fit": self._clock() - detected}
        return TrackedFrame(frame, phase, state, landmarks, self._progress(), seconds)

    def _follow(
        self, frame: CameraFrame, landmarks: Float[np.ndarray, "landmarks 3"] | None
    ) -> tuple[Phase, HeadState | None]:
        detected = None if landmarks is None else _from_centre(landmarks, frame)
        if self._fit is None:
            if detected is not None:
                self._measure(frame, detected)
            return Phase.MEASURING, None
        state = None if detected is None else self._fit_frame(self._fit, detected, frame.time)
        self._last = None if state is None else (frame.time, state)
        return (Phase.LOST, None) if state is None else (Phase.TRACKING, state)

    def _fit_frame(self, fit: FrameFit, detected: Float[Tensor, "landmarks 3"], now: float) -> HeadState | None:
        """The head state; None if the landmarks do not fit the person."""
        state = fit.start(detected) if self._last is None else fit.follow(self._last[1], detected, now - self._last[0])
        if fit.error(state, detected) < _MAX_ERROR:
            return state
        if self._mesh is not None:
            self._mesh.forget()
        return None

    def _measure(self, frame: CameraFrame, detected: Float[Tensor, "landmarks 3"]) -> None:
        """Collect frames, and measure the person when there are enough."""
        if self._calm and frame.time - self._calm[-1][0] > _MAX_PAUSE:
            self._calm.clear()
        self._calm.append((frame.time, detected))
        if self._progress() < 1:
            return
        chosen = np.linspace(0, len(self._calm) - 1, min(_MAX_FRAMES, len(self._calm))).round().astype(int)
        focal = EXPECTED_FOCAL * max(frame.rgb.shape[:2])
        self.calibration = calibrate(self._energy, torch.stack([self._calm[i][1] for i in chosen]), focal)
        self._fit = FrameFit(self._energy, self.calibration.person, self.calibration.neutral)
        self._calm.clear()

    def _progress(self) -> float:
        if self._fit is not None:
            return 1.0
        if not self._calm:
            return 0.0
        seconds = self._calm[-1][0] - self._calm[0][0]
        return min(1.0, seconds / CALIBRATION_SECONDS, len(self._calm) / _MIN_FRAMES)

    def _detect(self, rgb: UInt8[np.ndarray, "rows columns 3"]) -> Float[np.ndarray, "landmarks 3"] | None:
        assert self._mesh is not None
        detected = self._mesh(rgb)
        return None if detected is None else detected.points


def _from_centre(landmarks: Float[np.ndarray, "landmarks 3"], frame: CameraFrame) -> Float[Tensor, "landmarks 3"]:
    """Landmarks in pixels from the principal point, the frame's centre."""
    rows, columns = frame.rgb.shape[:2]
    return torch.from_numpy(landmarks - np.array([columns / 2, rows / 2, 0.0])).float()
