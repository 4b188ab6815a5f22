"""A take of Live Link Face: a folder with one recording, and the video that was filmed beside it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from partnerface_ns.common.errors import InputError
from partnerface_ns.driving.recording import HALF, channel_columns
from partnerface_ns.driving.table import decode, read_table

VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp", ".wmv", ".flv", ".ogv",
    ".gif",
)  # fmt: skip
_SIBLINGS = ("_raw", "_neutral", "_cal")
"""Ends of names of recordings that a take holds beside its own."""
_START = 1 << 16
"""Bytes of a file that are read to tell whether it is a recording."""


def take_recording(folder: Path) -> Path | None:
    """The recording of a take; None where the folder holds none.

    Raises:
        InputError: it holds several; names them.
    """
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() == ".csv" and not f.stem.lower().endswith(_SIBLINGS))
    found = [file for file in files if file.is_file() and _is_recording(file)]
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:6])
        raise InputError(folder, "several recordings in one folder", expected="the name of one of them", found=names)
    return found[0] if found else None


def take_sound(recording: Path) -> Path | None:
    """The take's video, where it has sound: of the recording's name, or the only one in the folder."""
    videos = sorted(f for f in recording.parent.iterdir() if f.suffix.lower() in VIDEO_SUFFIXES)
    own = [video for video in videos if video.stem == recording.stem] or (videos if len(videos) == 1 else [])
    return own[0] if own and _has_sound(own[0]) else None


def _is_recording(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            table = read_table(file, decode(stream.read(_START)))
    except (ValueError, OSError, InputError):
        return False
    return len(channel_columns(table.names)) >= HALF


def _has_sound(video: Path) -> bool:
    try:
        import imageio_ffmpeg
    except ImportError:  # without it there are no clips that could have sound
        return False
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-i",
        video,
        "-map",
        "0:a:0",
        "-t",
        "0.1",
        "-f",
        "null",
        "-",
    ]
    return subprocess.run(command, capture_output=True).returncode == 0
