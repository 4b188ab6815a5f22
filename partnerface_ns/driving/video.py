"""A raw video as motion: tracked once into a subject folder beside the output, which is used again afterwards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from partnerface_ns.capture.load import load_capture
from partnerface_ns.driving.motion import FPS, Motion, Skulls, motion_of_capture
from partnerface_ns.errors import SubjectError
from partnerface_ns.flame.head_model import HeadModel

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
_REPORT = "tracking.json"


def motion_of_video(video: Path, beside: Path, model: HeadModel, device: str = "cpu") -> Motion:
    """A video's motion, a moment for each of its frames; the nearest tracked one where a frame could not be tracked.

    Args:
        video: the file.
        beside: folder in which the tracked subject lies or is written, as `NAME_tracked`.
        model: the avatar's head model, which is fitted.
        device: where the head is fitted.

    Raises:
        SubjectError: the video cannot be tracked, or the folder is of something else.
    """
    from partnerface_ns.tracking.pipeline import track_video
    from partnerface_ns.tracking.stages import Options

    subject = beside / f"{video.stem}_tracked"
    if not subject.is_dir():
        track_video(video, subject, model, Options(device=device))
    elif not (subject / _REPORT).is_file():
        raise SubjectError(
            subject, "not a subject tracked from a video", hint="move it away: the video is tracked to it"
        )
    tracked = motion_of_capture(load_capture(subject), model, _rate(video))
    report = json.loads((subject / _REPORT).read_text(encoding="utf8"))
    motion = _spread(tracked, kept_frames(report["frames_total"], [int(i) for i in report["left_out"]]))
    note = f"The tracked subject lies in {subject} and is used again next time."
    return replace(motion, sound=video, notes=(*motion.notes, note))


def kept_frames(total: int, left_out: Sequence[int]) -> np.ndarray:
    """For each of a video's frames the place of the nearest one that was tracked, among those."""
    kept = np.setdiff1d(np.arange(total), left_out)
    return np.abs(kept[:, None] - np.arange(total)).argmin(0)


def _spread(motion: Motion, index: np.ndarray) -> Motion:
    assert motion.skulls is not None and motion.cameras is not None and motion.pictures is not None
    return replace(
        motion,
        states=motion.states[torch.from_numpy(index)],
        skulls=Skulls(motion.skulls.moving[torch.from_numpy(index)], motion.skulls.neutral),
        cameras=tuple(motion.cameras[i] for i in index),
        pictures=tuple(motion.pictures[i] for i in index),
    )


def _rate(video: Path) -> float:
    """Frames a second, from the file's own word."""
    from partnerface_ns.tracking.video import require

    with require("av").open(str(video)) as container:
        return float(container.streams.video[0].average_rate or FPS)
