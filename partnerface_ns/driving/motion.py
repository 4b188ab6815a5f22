"""Where motion comes from: a capture, a recording of blendshapes, keyframes, or a built-in performance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from partnerface_ns.capture.capture import Camera, Capture, Frame
from partnerface_ns.capture.head_models import check_fits, resolve_head_model
from partnerface_ns.capture.load import load_capture
from partnerface_ns.driving.keyframes import read_keyframes
from partnerface_ns.driving.livelink import read_livelink
from partnerface_ns.driving.performances import PERFORMANCES, PerformanceName
from partnerface_ns.driving.rig import Rig
from partnerface_ns.errors import SubjectError
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.neutral import measured_neutral
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState

FPS = 25.0
"""Pictures a second where neither the source nor the user says it."""


@dataclass(frozen=True)
class Motion:
    """A moving head, one entry a moment."""

    states: HeadState
    """Batch axes (timesteps,), coefficients of the avatar's head model."""
    neutral: HeadState
    """What the source's person does when doing nothing, batch axes ()."""
    fps: float
    """Moments a second."""
    person: ShapedHead | None = None
    """Whose head moves; None where the source has no head of its own."""
    cameras: tuple[Camera, ...] | None = None
    """The source's camera at each moment, where it has one."""
    pictures: tuple[Frame | None, ...] | None = None
    """The source's picture of each moment, where it has any."""
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Colour behind the source's person, in [0, 1]."""
    notes: tuple[str, ...] = ()
    """What a user should know about the reading."""

    def __len__(self) -> int:
        return len(self.states)


def load_motion(source: Path, model: HeadModel, fps: float | None = None) -> Motion:
    """Read a capture folder, a Live Link Face CSV, or a file of keyframes (CSV with a column `time`, or JSON).

    Args:
        source: the folder or file.
        model: the avatar's head model.
        fps: moments a second; None takes the source's own, or 25.

    Raises:
        SubjectError: it is none of these, cannot be used, or belongs to another head model.
    """
    source = Path(source)
    if source.is_dir():
        return motion_of_capture(load_capture(source), model, fps or FPS)
    if not source.is_file():
        raise SubjectError(source, "no motion here", expected="a capture folder, a .csv or a .json", found="nothing")
    if source.suffix.lower() == ".json":
        return motion_of_channels(*read_keyframes(source, fps or FPS), model, source)
    if source.suffix.lower() != ".csv":
        raise SubjectError(
            source,
            "not a motion that can be read",
            expected="a capture folder, a .csv (Live Link Face or keyframes) or a .json (keyframes)",
            found=source.suffix or "no suffix",
            hint="a video is first tracked: partnerface track VIDEO FOLDER",
        )
    with source.open(encoding="utf-8-sig", errors="replace") as file:
        columns = [name.strip().lower() for name in file.readline().split(",")]
    if "time" in columns:
        return motion_of_channels(*read_keyframes(source, fps or FPS), model, source)
    recorded = read_livelink(source)
    motion = motion_of_channels(recorded.channels, fps or recorded.fps, model, source)
    neutral = measured_neutral(motion.states, model)
    return Motion(motion.states, neutral, motion.fps, notes=recorded.notes)


def performance(name: PerformanceName, model: HeadModel, fps: float | None = None) -> Motion:
    """A built-in performance."""
    fps = fps or FPS
    return motion_of_channels(PERFORMANCES[name](fps), fps, model, Path(name))


def motion_of_channels(
    channels: Mapping[str, Float[np.ndarray, "timesteps"]], fps: float, model: HeadModel, source: Path
) -> Motion:
    """Curves of named channels, zero at rest, as a head's motion.

    Raises:
        SubjectError: a channel that the head model cannot follow.
    """
    states = Rig(model).states(channels, source)
    return Motion(states, HeadState.neutral(model.num_expr), fps)


def motion_of_capture(capture: Capture, model: HeadModel, fps: float = FPS) -> Motion:
    """A capture's track, seen by the camera of its first frame.

    Args:
        capture: of any layout.
        model: the avatar's head model.
        fps: moments a second; captures do not record it.

    Raises:
        SubjectError: the capture was tracked with another head model.
    """
    _check_head_model(capture, model)
    camera_index = capture.frames[0].camera_index
    by_time = {f.timestep: f for f in capture.frames if f.camera_index == camera_index}
    nearest = lambda t: by_time[min(by_time, key=lambda known: (abs(known - t), known))]  # noqa: E731
    seen = [by_time[t] if t in by_time else nearest(t) for t in range(capture.num_timesteps)]
    pictures = tuple(f if f.timestep == t and f.image_path is not None else None for t, f in enumerate(seen))
    return Motion(
        states=capture.track,
        neutral=measured_neutral(capture.track, model),
        fps=fps,
        person=ShapedHead.of(model, capture.identity, capture.static_offset),
        cameras=tuple(frame.camera for frame in seen),
        pictures=pictures if any(pictures) else None,
        background=capture.background or (1.0, 1.0, 1.0),
        notes=capture.remarks,
    )


def _check_head_model(capture: Capture, model: HeadModel) -> None:
    if capture.head_model.path is None:
        check_fits(capture, model)
        return
    theirs = resolve_head_model(capture)
    if theirs.fingerprint != model.fingerprint:
        raise SubjectError(
            capture.root,
            "was tracked with another head model than the avatar",
            expected=f"{model.name} ({model.fingerprint})",
            found=f"{theirs.name} ({theirs.fingerprint})",
        )
