"""Recordings of ARKit's blendshapes as CSV, one row a moment: Live Link Face's, or any with the same column names.

Columns may come in any order; missing blendshapes are 0. The head's rotation is read from HeadYaw, HeadPitch and
HeadRoll (radians) where a file has them (those of 61 values do); its eye angles repeat what the eyeLook blendshapes
say and are not read. The rate follows from Live Link Face's Timecode (HH:MM:SS:frame).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from partnerface_ns.driving.keyframes import Channels, number, read_table
from partnerface_ns.driving.rig import arkit_names
from partnerface_ns.errors import SubjectError

RECORDED_FPS = 60.0
"""Rows a second where no timecode tells."""
_LEAST = 26
"""Known columns from which a file counts as such a recording: half of the blendshapes."""
_HEAD = {"headyaw": "yaw", "headpitch": "pitch", "headroll": "roll"}
_TIMECODE = re.compile(r"(\d+:\d+:\d+)([:;.])(\d+)")


class Recording(NamedTuple):
    """Curves of a recording."""

    channels: Channels
    fps: float
    notes: tuple[str, ...]


def read_livelink(path: Path) -> Recording:
    """The curves in a CSV of blendshapes.

    Raises:
        SubjectError: not such a file, or a cell is no number; names line and column.
    """
    names, table = read_table(path)
    wanted = {name.lower(): name for name in arkit_names()}
    columns = {i: wanted[name.lower()] for i, name in enumerate(names) if name.lower() in wanted}
    if len(columns) < _LEAST:
        raise SubjectError(
            path,
            "neither a recording of ARKit's blendshapes nor keyframes",
            expected=f"at least {_LEAST} of the 52 columns EyeBlinkLeft ... TongueOut, or a column time",
            found=f"{len(columns)} of them among {len(names)} columns",
        )
    notes = []
    missing = sorted(set(wanted.values()) - set(columns.values()))
    if missing:
        notes.append(f"columns that are missing stay at rest: {', '.join(missing)}")
    columns |= {i: _HEAD[name.lower()] for i, name in enumerate(names) if name.lower() in _HEAD}
    channels = {
        channel: np.array([number(row[i] or "0", path, line, names[i]) for line, row in table])
        for i, channel in columns.items()
    }
    lower = [name.lower() for name in names]
    timecodes = [row[lower.index("timecode")] for _, row in table] if "timecode" in lower else []
    return Recording(channels, _rate(timecodes), tuple(notes))


def _rate(timecodes: Sequence[str]) -> float:
    """Rows a second: the median over all whole seconds of the recording, or what the last frame before a new second
    says of them.
    """
    found = [match.groups() for code in timecodes if (match := _TIMECODE.match(code.strip()))]
    whole = list(Counter(second for second, *_ in found).values())[1:-1]
    if whole:
        return float(np.median(whole))
    last = [int(frame) + 1 for (second, mark, frame), (later, *_) in pairwise(found) if later != second and mark != "."]
    rows = max(Counter(found).values(), default=1)  # a frame may have several, told apart by fractions of it
    return float(max(last) * rows) if last else RECORDED_FPS
