"""The motion of a capture: its head states, seen by the camera of its first frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.head_models import check_head_model, resolve_head_model
from partnerface_ns.capture.json_object import JsonObject
from partnerface_ns.capture.plausibility import drop_torn_heads
from partnerface_ns.common.errors import InputError
from partnerface_ns.driving.expression_fit import expression_map
from partnerface_ns.driving.motion import DEFAULT_FPS, Motion
from partnerface_ns.driving.resampling import hold_indices, infer_rate
from partnerface_ns.driving.skulls import Skulls, skull_pose, skull_poses
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.neutral import measure_neutral
from partnerface_ns.flame.posing import ShapedHead

TRACKING_NAME = "tracking.json"
"""The report that `partnerface track` writes into a capture folder."""


def motion_of_capture(
    capture: Capture, model: HeadModel, fps: float = DEFAULT_FPS, source_head_model: Path | None = None
) -> Motion:
    """The motion of a capture. A frame whose head is torn shows the nearest frame whose head is not.

    Args:
        capture: a capture of any layout; it needs no images.
        model: the avatar's head model. Expressions of another head model are mapped to it.
        fps: frames per second; captures do not record it.
        source_head_model: the capture's head model file, if it is not in the capture's folder.

    Raises:
        InputError: the capture's head model is not known or does not fit, or at least half of the heads are torn.
    """
    source_model = _head_model_of(capture, model, source_head_model)
    capture = _hold_over_torn_heads(capture, source_model)
    # The avatar's shoulders follow its own skull, not the source's shoulders.
    capture = replace(capture, track=replace(capture.track, torso=None))
    person = ShapedHead.of(source_model, capture.identity, capture.static_offset)
    neutral = measure_neutral(capture.track, source_model)
    skulls = Skulls(skull_poses(person, capture.track), skull_pose(person, neutral))
    states, notes = capture.track, (*capture.remarks, *capture.warnings)
    if source_model.fingerprint != model.fingerprint:
        mapping = expression_map(source_model, model)
        states, neutral = (replace(s, expression=s.expression @ mapping) for s in (states, neutral))
        notes += (f"expressions of {source_model.name} are mapped to {model.name}",)
    frames = _frames_by_timestep(capture)
    images = tuple(f if f.timestep == t and f.image_path is not None else None for t, f in enumerate(frames))
    return Motion(
        states=states,
        neutral=neutral,
        fps=fps,
        skulls=skulls,
        cameras=tuple(frame.camera for frame in frames),
        images=images if any(images) else None,
        background=capture.background or (1.0, 1.0, 1.0),
        notes=notes,
    )


def at_video_times(motion: Motion, folder: Path, fps: float | None) -> Motion:
    """A capture's motion at the frame times of its video, if `partnerface track` recorded them.

    A frame that could not be tracked shows the nearest one that was. Other captures do not state their rate.

    Args:
        motion: the motion of the capture.
        folder: the capture's folder.
        fps: frames per second; None infers the rate of the video.
    """
    report = folder / TRACKING_NAME
    record = JsonObject.read(report) if report.is_file() else None
    if record is None or not record.has("frame_times"):
        rate = f"{motion.fps:.4g} fps is assumed, because the capture does not state its rate; --fps sets it"
        return motion if fps is not None else replace(motion, notes=(*motion.notes, rate))
    times = record.numbers("frame_times", len(record.values["frame_times"]))
    tracked = nearest_tracked(len(times), [int(index) for index in record.child("left_out").values])
    if len(np.unique(tracked)) != len(motion) or (np.diff(times) < 0).any():
        expected = f"times of the {len(motion)} frames in the folder, in order"
        raise InputError(
            report, "does not belong to this capture", key="frame_times", expected=expected, actual=len(times)
        )
    rate = fps or infer_rate(times[np.concatenate([[True], np.diff(times) > 1e-6])]) or DEFAULT_FPS
    return replace(motion.select(tracked[hold_indices(times, rate)]), fps=rate)


def nearest_tracked(total: int, left_out: Sequence[int]) -> Int[np.ndarray, "frames"]:
    """For each frame of a video, the index of the nearest tracked frame among the tracked ones.

    Args:
        total: number of frames in the video.
        left_out: the frames that were not tracked.
    """
    return _nearest(np.arange(total), np.setdiff1d(np.arange(total), left_out))


def _nearest(frames: Int[np.ndarray, "frames"], known: Int[np.ndarray, "known"]) -> Int[np.ndarray, "frames"]:
    """For each frame, the index of the nearest entry of `known` (in order); the earlier of two equally near ones."""
    after = np.searchsorted(known, frames).clip(max=len(known) - 1)
    before = (after - 1).clip(min=0)
    return np.where(frames - known[before] <= np.abs(known[after] - frames), before, after)


def _hold_over_torn_heads(capture: Capture, model: HeadModel) -> Capture:
    """The capture with the head state of each torn timestep replaced by the nearest one that is not torn."""
    checked = drop_torn_heads(capture, model)
    if checked is capture:
        return capture
    torn = {frame.timestep for frame in capture.frames} - {frame.timestep for frame in checked.frames}
    timesteps = np.arange(capture.num_timesteps)
    intact = np.setdiff1d(timesteps, sorted(torn))
    index = intact[_nearest(timesteps, intact)]
    return replace(capture, track=capture.track[torch.from_numpy(index)], warnings=checked.warnings)


def _frames_by_timestep(capture: Capture) -> list[Frame]:
    """For each timestep the frame of the first camera, or the nearest frame of that camera in time."""
    camera_index = capture.frames[0].camera_index
    by_timestep: Mapping[int, Frame] = {f.timestep: f for f in capture.frames if f.camera_index == camera_index}
    known = np.array(sorted(by_timestep))
    nearest = known[_nearest(np.arange(capture.num_timesteps), known)]
    return [by_timestep[t] for t in nearest.tolist()]


def _head_model_of(capture: Capture, model: HeadModel, given: Path | None) -> HeadModel:
    """The avatar's head model if it fits the capture, else the capture's own."""
    if given is None and capture.head_model.path is None:
        try:
            check_head_model(capture, model)
            return model
        except InputError:  # the capture belongs to another head model, which its name may identify
            pass
    return resolve_head_model(capture, given)
