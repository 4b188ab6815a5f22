"""A raw video as motion: tracked once into a capture beside the output, which is used again afterwards.

The folder is named `STEM_tracked_KEY`. The key is a hash of the video's content and of the head model that is fitted:
another video of the same name, or the same name with a new content, has a folder of its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import require_file
from partnerface_ns.driving.motion import TRACKING_NAME, Motion, load_motion
from partnerface_ns.flame.head_model import HeadModel

_MARK, _KEY_LENGTH = "_tracked", 12
_BLOCK = 1 << 22


def motion_of_video(
    video: Path, beside: Path, model: HeadModel, fps: float | None = None, device: str = "cpu"
) -> Motion:
    """A video's motion: at every moment the head of the frame that the video shows then.

    Args:
        video: the file.
        beside: folder in which the tracked capture lies or is written.
        model: the avatar's head model, which is fitted.
        fps: moments a second; None takes the video's.
        device: where the head is fitted.

    Raises:
        InputError: the video cannot be tracked, or the folder is of something else.
    """
    from partnerface_ns.tracking.options import TrackingOptions
    from partnerface_ns.tracking.pipeline import track_video

    require_file(video)
    key = _key(video, model)
    folder = _tracked(beside, key) or beside / f"{video.stem}{_MARK}_{key}"
    if not folder.is_dir():
        for line in _why_anew(video, beside):
            print(line)
        track_video(video, folder, model, TrackingOptions(device=device))
    elif not (folder / TRACKING_NAME).is_file():
        raise InputError(folder, "not a capture tracked from a video", hint="move it away: the video is tracked to it")
    note = f"The capture tracked from {video} lies in {folder} and is used again next time."
    motion = load_motion(folder, model, fps)
    return replace(motion, sound=video, sound_start=_sound_start(video), notes=(*motion.notes, note))


def _key(video: Path, model: HeadModel) -> str:
    digest = hashlib.sha256(model.fingerprint.encode())
    with video.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()[:_KEY_LENGTH]


def _tracked(beside: Path, key: str) -> Path | None:
    """The folder of a key, whatever the video was called then."""
    folders = sorted(beside.iterdir()) if beside.is_dir() else []
    return next((f for f in folders if f.name.endswith(f"{_MARK}_{key}") and not f.name.startswith(".")), None)


def _why_anew(video: Path, beside: Path) -> list[str]:
    """A line for each folder that was tracked from another content of this name."""
    folders = sorted(beside.iterdir()) if beside.is_dir() else []
    others = [f.name for f in folders if f.is_dir() and f.name.startswith(f"{video.stem}{_MARK}")]
    return [f"{video} is tracked: {name} is of another video, version of it, or head model." for name in others]


def _sound_start(video: Path) -> float:
    """Seconds from the beginning of the file to its first image: sound that is heard before it."""
    from partnerface_ns.tracking.video.packages import require

    with require("av").open(str(video)) as container:
        stream = container.streams.video[0]
        if stream.start_time is None or stream.time_base is None or container.start_time is None:
            return 0.0
        return max(0.0, float(stream.start_time * stream.time_base) - container.start_time / 1e6)
