"""Reading a motion from a file or folder. The content decides what a file is, not its suffix.

- folders: a capture of any layout, or a take of Live Link Face
- tables: a recording of ARKit's blendshapes, keyframes, or `track.csv`
- JSON: a recording of blendshapes, or keyframes
- `.npz`: head states over time

A motion has a constant frame rate. Sources with their own sample times are resampled here (`resampling.py`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from partnerface_ns.capture.head_models import load_named_head_model
from partnerface_ns.capture.json_object import JsonObject
from partnerface_ns.capture.load import detect_format, load_capture
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import require_file
from partnerface_ns.driving.capture_motion import at_video_times, motion_of_capture
from partnerface_ns.driving.json_table import parse_json, table_of_json
from partnerface_ns.driving.keyframes import (
    Keyframes,
    is_keyframes,
    keyframes_of_record,
    keyframes_of_table,
    read_keyframes,
)
from partnerface_ns.driving.motion import DEFAULT_FPS, Motion, motion_of_channels
from partnerface_ns.driving.recording import is_recording, no_motion_error, read_recording
from partnerface_ns.driving.resampling import hold_indices, infer_rate, resample
from partnerface_ns.driving.rig import Rig
from partnerface_ns.driving.table import Table, decode, read_table
from partnerface_ns.driving.takes import VIDEO_SUFFIXES, find_recording, find_sound
from partnerface_ns.driving.tracks import Track, is_table_track, read_npz_track, read_table_track
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.neutral import measure_neutral

_SUPPORTED = (
    "a folder of a capture or a take; a table of ARKit's blendshapes or of keyframes (.csv); JSON of either; "
    "head states over time (.npz with expr, jaw_pose, ...; track.csv)"
)
_HINTS = {
    ".npy": "save the arrays by name in an .npz: expr (frames, coefficients), jaw_pose (frames, 3)",
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), "save the sheet as CSV"),
    **dict.fromkeys(VIDEO_SUFFIXES, "`partnerface drive` tracks videos; otherwise run partnerface track VIDEO DIR"),
}
"""How to convert unsupported files, by suffix."""
_MAX_TEXT_BYTES = 128 << 20


def load_motion(
    source: Path, model: HeadModel, fps: float | None = None, source_head_model: Path | None = None
) -> Motion:
    """Read a motion.

    Args:
        source: the file or folder.
        model: the avatar's head model.
        fps: frames per second of the result, and the rate of a source without a clock; None takes the source's own.
        source_head_model: the head model file of the source's coefficients, if the source does not contain it.

    Raises:
        InputError: the source is none of the supported kinds, or it cannot be used.
    """
    source = Path(source)
    require_source(source)
    if source.is_dir():
        return _motion_of_folder(source, model, fps, source_head_model)
    if source.suffix.lower() in _HINTS:
        raise _unsupported_error(source)
    source_model = None if source_head_model is None else load_named_head_model(source_head_model)
    with source.open("rb") as file:
        start = file.read(4)
    if start.startswith(b"PK"):  # a zip archive, as .npz files are
        return _motion_of_track(read_npz_track(source, model, source_model), fps)
    require_file(source, max_bytes=_MAX_TEXT_BYTES)
    try:
        text = decode(source.read_bytes())
    except ValueError:
        raise _unsupported_error(source) from None
    if text.lstrip()[:1] in ("{", "["):
        return _motion_of_json(source, text, model, fps)
    return _motion_of_table(read_table(source, text), model, fps, source_model)


def require_source(source: Path) -> None:
    """Check that a motion source is a capture's or take's folder, or a file that is not empty.

    Raises:
        InputError: it is neither.
    """
    if not source.exists():
        raise InputError(source, "the motion does not exist", expected=_SUPPORTED, actual="nothing")
    if source.is_dir():
        _recording_of_folder(source)
    else:
        require_file(source)


def _unsupported_error(source: Path) -> InputError:
    """The error for a file that holds no motion, with a hint for files of its kind."""
    suffix = source.suffix.lower()
    hint = _HINTS.get(suffix, "if it is a video, run partnerface track VIDEO DIR")
    return InputError(source, "not a motion file", expected=_SUPPORTED, actual=suffix or "no suffix", hint=hint)


def _recording_of_folder(folder: Path) -> Path | None:
    """The recording of a take's folder; None if the folder is a capture. It raises InputError if it is neither."""
    try:
        detect_format(folder)
    except InputError:
        recording = find_recording(folder)
        if recording is None:
            raise
        return recording
    return None


def _motion_of_folder(folder: Path, model: HeadModel, fps: float | None, source_head_model: Path | None) -> Motion:
    recording = _recording_of_folder(folder)
    if recording is not None:
        return _motion_of_take(recording, model, fps)
    capture = load_capture(folder, head_model=source_head_model, as_motion=True)
    motion = motion_of_capture(capture, model, fps or DEFAULT_FPS, source_head_model)
    return at_video_times(motion, folder, fps)


def _motion_of_take(recording: Path, model: HeadModel, fps: float | None) -> Motion:
    """The recording of a take, with the sound of the take's video."""
    motion, sound = load_motion(recording, model, fps), find_sound(recording)
    heard = f"with the sound of {sound.name}" if sound else "without sound, because no video here has any"
    return replace(motion, sound=sound, notes=(f"{recording.name} of the take is read {heard}", *motion.notes))


def _motion_of_json(source: Path, text: str, model: HeadModel, fps: float | None) -> Motion:
    content = parse_json(source, text)
    if isinstance(content, dict) and "keyframes" in content:
        keyframes = keyframes_of_record(JsonObject(source, content), model.expression_names)
        return _motion_of_keyframes(keyframes, model, fps)
    table, stated_fps = table_of_json(source, content)
    return _motion_of_table(table, model, fps, None, stated_fps)


def _motion_of_table(
    table: Table,
    model: HeadModel,
    fps: float | None,
    source_model: HeadModel | None,
    stated_fps: float | None = None,
) -> Motion:
    """The motion of a table.

    Args:
        table: the table.
        model: the avatar's head model.
        fps: frames per second, if the user sets it.
        source_model: the head model of the table's coefficients, if the user names one.
        stated_fps: frames per second that the file states beside the table.
    """
    if is_table_track(table):
        return _motion_of_track(read_table_track(table, model, source_model), fps)
    if is_keyframes(table):
        motion = _motion_of_keyframes(keyframes_of_table(table, model.expression_names), model, fps)
        return replace(motion, notes=(*motion.notes, *table.notes))
    if not is_recording(table):
        raise no_motion_error(table)
    recording = read_recording(table, stated_fps, fps)
    fps = fps or recording.fps
    motion = motion_of_channels(resample(recording.times, recording.channels, fps), fps, Rig(model), table.source)
    return replace(motion, neutral=measure_neutral(motion.states, model), notes=recording.notes)


def _motion_of_keyframes(keyframes: Keyframes, model: HeadModel, fps: float | None) -> Motion:
    fps = fps or DEFAULT_FPS
    channels, notes = read_keyframes(keyframes, fps)
    return replace(motion_of_channels(channels, fps, Rig(model), keyframes.source), notes=notes)


def _motion_of_track(track: Track, fps: float | None) -> Motion:
    num = len(track.states)
    if track.times is None:
        rate = fps or DEFAULT_FPS
        times = np.arange(num) / rate
        origin = "assumed, because the file does not state it; --fps sets it" if fps is None else "set by --fps"
    else:
        times, rate = track.times, fps or infer_rate(track.times) or DEFAULT_FPS
        origin = "stated by the file"
    index = hold_indices(times, rate)
    length = f"{num} frames, {times[-1] - times[0] + 1 / rate:.2f} s at {rate:.4g} fps ({origin})"
    return Motion(track.states[torch.from_numpy(index)], track.neutral, rate, notes=(length, *track.notes))
