"""The motion of a raw video, which is tracked once into a capture folder and reused afterwards.

The folder is named `STEM_tracked_KEY`. The key is a hash of the video's content and the fitted head model, so a changed
video of the same name is tracked into a new folder.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import require_file
from partnerface_ns.driving.capture_motion import TRACKING_NAME
from partnerface_ns.driving.load import load_motion
from partnerface_ns.driving.motion import Motion
from partnerface_ns.flame.head_model import HeadModel

_MARK, _KEY_LENGTH = "_tracked", 12
_BLOCK = 1 << 22


def motion_of_video(
    video: Path, parent: Path, model: HeadModel, fps: float | None = None, device: str = "cpu"
) -> Motion:
    """The motion of a video, with the video's sound.

    Args:
        video: the file.
        parent: the folder in which the tracked capture is found or written.
        model: the avatar's head model, which is fitted to the video.
        fps: frames per second; None takes the video's.
        device: device of the fit.

    Raises:
        InputError: the video cannot be tracked, or the capture's folder holds something else.
    """
    from partnerface_ns.tracking.options import TrackingOptions
    from partnerface_ns.tracking.pipeline import track_video

    require_file(video)
    key = _key(video, model)
    folder = _tracked_folder(parent, key) or parent / f"{video.stem}{_MARK}_{key}"
    if not folder.is_dir():
        for line in _outdated_folders(video, parent):
            print(line)
        track_video(video, folder, model, TrackingOptions(device=device))
    elif not (folder / TRACKING_NAME).is_file():
        raise InputError(
            folder, "not a capture tracked from a video", hint="move it away: the video is tracked into it"
        )
    note = f"the capture tracked from {video} is in {folder} and will be reused"
    motion = load_motion(folder, model, fps)
    return replace(motion, sound=video, sound_start=_sound_start(video), notes=(*motion.notes, note))


def _key(video: Path, model: HeadModel) -> str:
    digest = hashlib.sha256(model.fingerprint.encode())
    with video.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()[:_KEY_LENGTH]


def _tracked_folder(parent: Path, key: str) -> Path | None:
    """The folder with this key, whatever the name of the video was."""
    folders = sorted(parent.iterdir()) if parent.is_dir() else []
    return next((f for f in folders if f.name.endswith(f"{_MARK}_{key}") and not f.name.startswith(".")), None)


def _outdated_folders(video: Path, parent: Path) -> list[str]:
    """A message for each folder that was tracked from a video of this name, but another content or head model."""
    folders = sorted(parent.iterdir()) if parent.is_dir() else []
    others = [f.name for f in folders if f.is_dir() and f.name.startswith(f"{video.stem}{_MARK}")]
    return [f"Tracking {video}: {name} belongs to another video, version of it, or head model." for name in others]


def _sound_start(video: Path) -> float:
    """Seconds of sound before the first image of a video file."""
    from partnerface_ns.tracking.video.packages import require

    with require("av").open(str(video)) as container:
        stream = container.streams.video[0]
        if stream.start_time is None or stream.time_base is None or container.start_time is None:
            return 0.0
        return max(0.0, float(stream.start_time * stream.time_base) - container.start_time / 1e6)
