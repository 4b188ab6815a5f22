"""Where motion comes from: a capture, a recording of blendshapes, keyframes, head states or a built-in performance.

A motion has a constant rate. Sources keep their own clock until here: a sample is shown at its own time (`grid.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.head_models import check_head_model, load_named_head_model, resolve_head_model
from partnerface_ns.capture.json_object import JsonObject
from partnerface_ns.capture.load import detect_format, load_capture
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import require_file
from partnerface_ns.driving.fitted_directions import carried_directions
from partnerface_ns.driving.grid import held, rate_of, sampled
from partnerface_ns.driving.json_table import parse_json, table_of_json
from partnerface_ns.driving.keyframes import (
    Keyframes,
    is_keyframes,
    keyframes_of_record,
    keyframes_of_table,
    read_keyframes,
)
from partnerface_ns.driving.performances import PERFORMANCES, PerformanceName
from partnerface_ns.driving.recording import is_recording, no_motion, read_recording
from partnerface_ns.driving.rig import Rig
from partnerface_ns.driving.table import Table, decode, read_table
from partnerface_ns.driving.takes import VIDEO_SUFFIXES, take_recording, take_sound
from partnerface_ns.driving.tracks import Track, is_table_track, read_npz_track, read_table_track
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.neutral import measure_neutral
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera

FPS = 25.0
"""Images a second where neither the source nor the user says it."""
FORMS = (
    "a folder of a capture or a take; a table of ARKit's blendshapes or of keyframes (.csv); JSON of either; "
    "head states over time (.npz with expr, jaw_pose, ...; track.csv)"
)
TRACKING_NAME = "tracking.json"
"""What `partnerface track` says about a folder that it wrote."""
_UNREAD = {
    ".npy": "save the array's parts by name in an .npz: expr (frames, coefficients), jaw_pose (frames, 3)",
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), "save the sheet as CSV"),
    **dict.fromkeys(VIDEO_SUFFIXES, "`partnerface drive` tracks a video; elsewhere: partnerface track VIDEO DIR"),
}
"""What to do about files of other kinds, by suffix."""
_MAX_TEXT_BYTES = 128 << 20
_AT_ONCE = 256
"""WarpFrames that are posed at once: each takes a whole head's vertices."""


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
    """WarpFrames a second."""
    skulls: Skulls | None = None
    """Where the source's skull is; None where the source has no head of its own."""
    cameras: tuple[Camera, ...] | None = None
    """The source's camera at each moment, where it has one."""
    images: tuple[Frame | None, ...] | None = None
    """The source's image of each moment, where it has any."""
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Colour behind the source's person, in [0, 1]."""
    sound: Path | None = None
    """A video whose sound goes with the motion."""
    notes: tuple[str, ...] = ()
    """What a user should know about the reading."""
    sound_start: float = 0.0
    """Seconds of the sound that are over when the first moment begins."""

    def __len__(self) -> int:
        return len(self.states)

    def at(self, index: Int[np.ndarray, "moments"]) -> Motion:
        """The motion that shows these moments one after the other."""
        rows = torch.from_numpy(index)
        return replace(
            self,
            states=self.states[rows],
            cameras=self.cameras and tuple(self.cameras[i] for i in index),
            images=self.images and tuple(self.images[i] for i in index),
            skulls=self.skulls and Skulls(self.skulls.moving[rows], self.skulls.neutral),
        )


def load_motion(
    source: Path, model: HeadModel, fps: float | None = None, source_head_model: Path | None = None
) -> Motion:
    """Read whatever moves a face; what is in a file decides what it is, not its suffix.

    A capture or a take folder, a table (a recording of blendshapes, keyframes, `track.csv`), JSON of the first two, or
    head states in an npz.

    Args:
        source: the folder or file.
        model: the avatar's head model.
        fps: moments a second, and where the source has no clock, its own rate too; None takes the source's own.
        source_head_model: the head model file of a source that has one and does not hold it.

    Raises:
        InputError: it is none of these, or cannot be used.
    """
    source = Path(source)
    if source.is_dir():
        return _motion_of_folder(source, model, fps, source_head_model)
    if not source.exists():
        raise InputError(source, "no motion here", expected=FORMS, found="nothing")
    require_file(source)
    if source.suffix.lower() in _UNREAD:
        raise _unreadable(source)
    theirs = None if source_head_model is None else load_named_head_model(source_head_model)
    with source.open("rb") as file:
        start = file.read(4)
    if start.startswith(b"PK"):
        return _motion_of_track(read_npz_track(source, model, theirs), fps)
    require_file(source, max_bytes=_MAX_TEXT_BYTES)
    try:
        text = decode(source.read_bytes())
    except ValueError:
        raise _unreadable(source) from None
    if text.lstrip()[:1] in ("{", "["):
        return _motion_of_json(source, text, model, fps)
    return _motion_of_table(read_table(source, text), model, fps, theirs)


def _unreadable(source: Path) -> InputError:
    """The refusal of a file that is no motion, with what to do about one of its kind."""
    suffix = source.suffix.lower()
    hint = _UNREAD.get(suffix, "a video has another suffix; partnerface track VIDEO DIR tracks any")
    return InputError(source, "not a motion that can be read", expected=FORMS, found=suffix or "no suffix", hint=hint)


def _motion_of_folder(folder: Path, model: HeadModel, fps: float | None, source_head_model: Path | None) -> Motion:
    try:
        detect_format(folder)
    except InputError:
        recording = take_recording(folder)
        if recording is not None:
            motion = load_motion(recording, model, fps)
            sound = take_sound(recording)
            heard = f"with the sound of {sound.name}" if sound else "without sound: no video here has any"
            return replace(motion, sound=sound, notes=(f"the take's {recording.name} is read, {heard}", *motion.notes))
    capture = load_capture(folder, head_model=source_head_model)
    motion = motion_of_capture(capture, model, fps or FPS, source_head_model)
    return tracked_at_its_times(motion, folder, fps)


def _motion_of_json(source: Path, text: str, model: HeadModel, fps: float | None) -> Motion:
    content = parse_json(source, text)
    if isinstance(content, dict) and "keyframes" in content:
        return _motion_of_keyframes(
            keyframes_of_record(JsonObject(source, content), model.expression_names), model, fps
        )
    table, stated = table_of_json(source, content)
    return _motion_of_table(table, model, fps, None, stated)


def _motion_of_table(
    table: Table, model: HeadModel, fps: float | None, theirs: HeadModel | None, stated: float | None = None
) -> Motion:
    if is_table_track(table):
        return _motion_of_track(read_table_track(table, model, theirs), fps)
    if is_keyframes(table):
        motion = _motion_of_keyframes(keyframes_of_table(table, model.expression_names), model, fps)
        return replace(motion, notes=(*motion.notes, *table.notes))
    if not is_recording(table):
        raise no_motion(table.source, table)
    recorded = read_recording(table, stated, fps)
    fps = fps or recorded.fps
    motion = motion_of_channels(sampled(recorded.times, recorded.channels, fps), fps, Rig(model), table.source)
    return replace(motion, neutral=measure_neutral(motion.states, model), notes=recorded.notes)


def _motion_of_keyframes(keyframes: Keyframes, model: HeadModel, fps: float | None) -> Motion:
    fps = fps or FPS
    channels, notes = read_keyframes(keyframes, fps)
    return replace(motion_of_channels(channels, fps, Rig(model), keyframes.source), notes=notes)


def _motion_of_track(track: Track, fps: float | None) -> Motion:
    num = len(track.states)
    if track.times is None:
        note = "the file does not say it, --fps sets it" if fps is None else "--fps says so"
        times, rate = np.arange(num) / (fps or FPS), fps or FPS
    else:
        times, rate, note = track.times, fps or rate_of(track.times) or FPS, "the file says so"
    index = held(times, rate)
    length = f"{num} moments, {times[-1] - times[0] + 1 / rate:.2f} s at {rate:.4g} a second: {note}"
    return Motion(track.states[torch.from_numpy(index)], track.neutral, rate, notes=(length, *track.notes))


def performance(name: PerformanceName, model: HeadModel, fps: float | None = None) -> Motion:
    """A built-in performance."""
    fps = fps or FPS
    return motion_of_channels(PERFORMANCES[name](fps), fps, Rig(model), Path(name))


def motion_of_channels(
    channels: Mapping[str, Float[np.ndarray, "timesteps"]], fps: float, rig: Rig, source: Path
) -> Motion:
    """Curves of named channels, zero at rest, as a head's motion.

    Args:
        channels: curves of one length.
        fps: moments a second.
        rig: of the avatar's head model. It finds the nearest expressions once; keep it where this is called often.
        source: where the channels come from, for the error.

    Raises:
        InputError: a channel that the head model cannot follow.
    """
    return Motion(rig.states(channels, source), HeadState.neutral(rig.model.num_expr), fps)


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
        InputError: the capture's head model is not known, or is not the one given.
    """
    theirs = _head_model_of(capture, model, source_head_model)
    person = ShapedHead.of(theirs, capture.identity, capture.static_offset)
    neutral = measure_neutral(capture.track, theirs)
    carried = carried_directions(theirs, model)
    same = theirs.fingerprint == model.fingerprint
    carry = lambda s: s if same else replace(s, expression=s.expression @ carried)  # noqa: E731
    note = f"Expressions of {theirs.name} are carried over to {model.name}."
    camera_index = capture.frames[0].camera_index
    by_time = {f.timestep: f for f in capture.frames if f.camera_index == camera_index}
    nearest = lambda t: by_time[min(by_time, key=lambda known: (abs(known - t), known))]  # noqa: E731
    seen = [by_time[t] if t in by_time else nearest(t) for t in range(capture.num_timesteps)]
    images = tuple(f if f.timestep == t and f.image_path is not None else None for t, f in enumerate(seen))
    return Motion(
        states=carry(capture.track),
        neutral=carry(neutral),
        fps=fps,
        skulls=Skulls(skull_of(person, capture.track), skull_of(person, neutral)),
        cameras=tuple(frame.camera for frame in seen),
        images=images if any(images) else None,
        background=capture.background or (1.0, 1.0, 1.0),
        notes=capture.remarks if same else (*capture.remarks, note),
    )


def tracked_at_its_times(motion: Motion, folder: Path, fps: float | None) -> Motion:
    """A tracked video's motion, at the times of the video's frames where `partnerface track` wrote them down.

    A frame that could not be tracked shows the nearest one that was. Other captures do not say their rate.
    """
    report = folder / TRACKING_NAME
    record = JsonObject.read(report) if report.is_file() else None
    if record is None or not record.has("frame_times"):
        rate = f"{motion.fps:.4g} moments a second, because the capture does not say its rate; --fps sets it"
        return motion if fps is not None else replace(motion, notes=(*motion.notes, rate))
    times = record.numbers("frame_times", len(record.values["frame_times"]))
    tracked = nearest_tracked(len(times), [int(index) for index in record.child("left_out").values])
    if len(np.unique(tracked)) != len(motion) or (np.diff(times) < 0).any():
        raise InputError(report, "is of another track than the folder holds", key="frame_times", found=len(times))
    rate = fps or rate_of(times[np.concatenate([[True], np.diff(times) > 1e-6])]) or FPS
    return replace(motion.at(tracked[held(times, rate)]), fps=rate)


def nearest_tracked(total: int, left_out: Sequence[int]) -> Int[np.ndarray, "frames"]:
    """For each of a video's frames the place of the nearest one that was tracked, among those."""
    kept = np.setdiff1d(np.arange(total), left_out)
    frames = np.arange(total)
    after = np.searchsorted(kept, frames).clip(max=len(kept) - 1)
    before = (after - 1).clip(min=0)
    return np.where(frames - kept[before] <= np.abs(kept[after] - frames), before, after)


def skull_of(head: ShapedHead, states: HeadState) -> Float[Tensor, "*batch 4 4"]:
    """The rigid transform of a person's skull, world from rest, float64; batch axes are () or (timesteps,)."""
    pose = lambda s: head.pose(s).T_world_rest[..., Joint.NECK, :, :].double()  # noqa: E731
    if states.batch_shape == ():
        return pose(states)
    return torch.cat([pose(states[at : at + _AT_ONCE]) for at in range(0, len(states), _AT_ONCE)])


def _head_model_of(capture: Capture, model: HeadModel, given: Path | None) -> HeadModel:
    """The avatar's head model if the capture may be of it, else the capture's own."""
    if given is None and capture.head_model.path is None:
        try:
            check_head_model(capture, model)
            return model
        except InputError:  # it is of another one, which its name may tell
            pass
    return resolve_head_model(capture, given)
