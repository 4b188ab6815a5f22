"""Where motion comes from: a capture, a recording of blendshapes, keyframes, or a built-in performance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.capture.capture import Camera, Capture, Frame
from partnerface_ns.capture.head_models import check_fits, resolve_head_model
from partnerface_ns.capture.load import load_capture
from partnerface_ns.driving.fitted_directions import carried_directions
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
_NECK = 1


@dataclass(frozen=True)
class Skulls:
    """Rigid transforms of a person's skull, source's world from the head model's rest frame, float64."""

    moving: Float[Tensor, "timesteps 4 4"]
    neutral: Float[Tensor, "4 4"]


@dataclass(frozen=True)
class Motion:
    """A moving head, one entry a moment."""

    states: HeadState
    """Batch axes (timesteps,), coefficients of the avatar's head model."""
    neutral: HeadState
    """What the source's person does when doing nothing, batch axes ()."""
    fps: float
    """Moments a second."""
    skulls: Skulls | None = None
    """Where the source's skull is; None where the source has no head of its own."""
    cameras: tuple[Camera, ...] | None = None
    """The source's camera at each moment, where it has one."""
    pictures: tuple[Frame | None, ...] | None = None
    """The source's picture of each moment, where it has any."""
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Colour behind the source's person, in [0, 1]."""
    sound: Path | None = None
    """A video whose sound goes with the motion."""
    notes: tuple[str, ...] = ()
    """What a user should know about the reading."""

    def __len__(self) -> int:
        return len(self.states)


def load_motion(
    source: Path, model: HeadModel, fps: float | None = None, source_head_model: Path | None = None
) -> Motion:
    """Read a capture folder, a Live Link Face CSV, or a file of keyframes (CSV with a column `time`, or JSON).

    Args:
        source: the folder or file.
        model: the avatar's head model.
        fps: moments a second; None takes the source's own, or 25.
        source_head_model: a capture's head model file, where the capture does not hold it.

    Raises:
        SubjectError: it is none of these, or cannot be used.
    """
    source = Path(source)
    if source.is_dir():
        return motion_of_capture(
            load_capture(source, head_model=source_head_model), model, fps or FPS, source_head_model
        )
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
            hint="partnerface drive tracks a video by itself; elsewhere: partnerface track VIDEO FOLDER",
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


def motion_of_capture(
    capture: Capture, model: HeadModel, fps: float = FPS, source_head_model: Path | None = None
) -> Motion:
    """A capture's track, seen by the camera of its first frame.

    Args:
        capture: of any layout.
        model: the avatar's head model; expressions of another one are carried over.
        fps: moments a second; captures do not record it.
        source_head_model: the capture's head model file, where the capture does not hold it.

    Raises:
        SubjectError: the capture's head model is not known, or is not the one given.
    """
    theirs = _head_model_of(capture, model, source_head_model)
    person = ShapedHead.of(theirs, capture.identity, capture.static_offset)
    neutral = measured_neutral(capture.track, theirs)
    carried = carried_directions(theirs, model)
    same = theirs.fingerprint == model.fingerprint
    carry = lambda s: s if same else replace(s, expression=s.expression @ carried)  # noqa: E731
    note = f"Expressions of {theirs.name} are carried over to {model.name}."
    camera_index = capture.frames[0].camera_index
    by_time = {f.timestep: f for f in capture.frames if f.camera_index == camera_index}
    nearest = lambda t: by_time[min(by_time, key=lambda known: (abs(known - t), known))]  # noqa: E731
    seen = [by_time[t] if t in by_time else nearest(t) for t in range(capture.num_timesteps)]
    pictures = tuple(f if f.timestep == t and f.image_path is not None else None for t, f in enumerate(seen))
    return Motion(
        states=carry(capture.track),
        neutral=carry(neutral),
        fps=fps,
        skulls=Skulls(skull_of(person, capture.track), skull_of(person, neutral)),
        cameras=tuple(frame.camera for frame in seen),
        pictures=pictures if any(pictures) else None,
        background=capture.background or (1.0, 1.0, 1.0),
        notes=capture.remarks if same else (*capture.remarks, note),
    )


def skull_of(head: ShapedHead, states: HeadState) -> Float[Tensor, "*batch 4 4"]:
    """The rigid transform of a person's skull, world from rest, float64."""
    return head.pose(states).T_world_rest[..., _NECK, :, :].double()


def _head_model_of(capture: Capture, model: HeadModel, given: Path | None) -> HeadModel:
    """The avatar's head model if the capture may be of it, else the capture's own."""
    if given is None and capture.head_model.path is None:
        try:
            check_fits(capture, model)
            return model
        except SubjectError:  # it is of another one, which its name may tell
            pass
    return resolve_head_model(capture, given)
