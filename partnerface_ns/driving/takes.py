"""Takes of Live Link Face: a folder with one recording of blendshapes and the video filmed with it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from partnerface_ns.common.errors import InputError
from partnerface_ns.driving.recording import MANY_BLENDSHAPES, channel_columns
from partnerface_ns.driving.table import decode, read_table

VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp", ".wmv", ".flv", ".ogv",
    ".gif",
)  # fmt: skip
_VARIANT_ENDINGS = ("_raw", "_neutral", "_cal")
"""Endings of file names that mark other versions of a take's recording."""
_START = 1 << 16
"""Bytes of a file that are read to recognise a recording."""


def find_recording(folder: Path) -> Path | None:
    """The recording in a take's folder; None if there is none.

    Raises:
        InputError: the folder holds several recordings.
    """
    tables = (path for path in folder.iterdir() if path.suffix.lower() == ".csv" and path.is_file())
    candidates = sorted(path for path in tables if not path.stem.lower().endswith(_VARIANT_ENDINGS))
    recordings = [path for path in candidates if _is_recording(path)]
    if len(recordings) > 1:
        names = ", ".join(path.name for path in recordings[:6])
        raise InputError(
            folder, "the folder holds several recordings", expected="the path of one of them", actual=names
        )
    return recordings[0] if recordings else None


def find_sound(recording: Path) -> Path | None:
    """The take's video if it has sound: the video named as the recording, or else the only one in the folder."""
    videos = sorted(path for path in recording.parent.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    own = [video for video in videos if video.stem == recording.stem] or (videos if len(videos) == 1 else [])
    return own[0] if own and _has_sound(own[0]) else None


def _is_recording(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            table = read_table(path, decode(stream.read(_START)))
    except (ValueError, OSError, InputError):
        return False
    return len(channel_columns(table.names)) >= MANY_BLENDSHAPES


def _has_sound(video: Path) -> bool:
    try:
        import imageio_ffmpeg
    except ImportError:  # clips with sound cannot be written without it either
        return False
    decode_sound = ["-map", "0:a:0", "-t", "0.1", "-f", "null", "-"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", video, *decode_sound]
    return subprocess.run(command, capture_output=True).returncode == 0
