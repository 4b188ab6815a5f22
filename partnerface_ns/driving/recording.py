"""A recording of ARKit's blendshapes: a row a moment, with a clock or without.

Columns may come in any order and spelling; missing blendshapes stay at rest. The head turns by HeadYaw, HeadPitch and
HeadRoll where they are there; eye angles repeat what the eyeLook blendshapes say and are not read. A row without
values is a lost face, and so is a row whose `BlendshapeCount` is 0: both are filled from the rows around them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from partnerface_ns.common.errors import InputError
from partnerface_ns.driving.blendshape_names import channel_names, find, spelled
from partnerface_ns.driving.clock import clock_columns, read_clock
from partnerface_ns.driving.grid import Channels, Times, rate_of
from partnerface_ns.driving.rig import arkit_names
from partnerface_ns.driving.table import Table
from partnerface_ns.driving.units import ANGLES, angle_scale, weight_scale

RECORDED_FPS = 60.0
"""Rows a second where nothing tells."""
HALF = 26
"""Half of ARKit's blendshapes."""
_LONGEST_PAUSE = 600.0
"""Seconds without rows that are filled."""
_RATE = re.compile(r"(?:fps|frame[ _]?rate)\W{1,3}(\d+(?:\.\d+)?)", re.IGNORECASE)
_DECLARED = {"deg": np.pi / 180, "percent": 0.01}
_NEEDLESS = ("eyeyaw", "eyepitch", "eyeroll", "blendshapecount", "neutral", "unnamed")
"""What the keys of columns begin with that say nothing more about the face."""


class Recording(NamedTuple):
    """Curves of a recording."""

    times: Times
    """Seconds from the first row, increasing."""
    channels: Channels
    """Values at these times; NaN where the face was lost."""
    fps: float
    """Rows a second."""
    notes: tuple[str, ...]


class _Column(NamedTuple):
    channel: str
    index: int


def channel_columns(names: Sequence[str]) -> list[_Column]:
    """The columns that move a face, in order."""
    known = channel_names(arkit_names())
    found = ((find(name, known), index) for index, name in enumerate(names))
    return [_Column(channel, index) for channel, index in found if channel is not None]


def is_recording(table: Table) -> bool:
    """Whether a table's columns are a face's, beside a clock or for the most part."""
    columns = channel_columns(table.names)
    named = sum(bool(name) for name in table.names)
    return bool(columns) and (len(columns) >= HALF or 2 * len(columns) >= named or bool(clock_columns(table.names)))


def read_recording(table: Table, stated: float | None = None, fps: float | None = None) -> Recording:
    """The curves in a table.

    Args:
        table: with `is_recording`.
        stated: rows a second as the file says it, where it does; a column with a clock says more.
        fps: rows a second where the file does not say it; None takes 60.

    Raises:
        InputError: a column stands twice, a cell is no number, or a unit cannot be told.
    """
    columns = channel_columns(table.names)
    _refuse_repeated(table, columns)
    values = {c.channel: table.numbers(c.index) for c in columns}
    lost = _lost(table, values)
    values = {channel: np.where(lost, np.nan, v) for channel, v in values.items()}
    values, unit_notes = _in_our_units(table, columns, values)
    times, rate, clock_notes = _times(table, stated or _commented_rate(table), fps)
    kept, order_notes = _kept(table, times)
    times, lost = times[kept] - times[kept[0]], lost[kept]
    rate = rate or rate_of(times) or RECORDED_FPS
    pause_notes = _pauses(table, times, kept, rate)
    count = f"{len(times)} rows" if len(times) > 1 else "one row, which is one moment"
    notes = [f"{count}, {times[-1] + 1 / rate:.2f} s at {rate:.4g} a second: {clock_notes}"]
    notes += [*table.notes, *unit_notes, *order_notes, *pause_notes, *_lost_note(table, lost, kept)]
    notes += _column_notes(table, columns, values)
    return Recording(times, {channel: v[kept] for channel, v in values.items()}, rate, tuple(notes))


# -- values ------------------------------------------------------------------------------------------------------


def _refuse_repeated(table: Table, columns: Sequence[_Column]) -> None:
    seen: dict[str, int] = {}
    for channel, index in columns:
        if channel in seen:
            found = f"columns {seen[channel] + 1} ({table.names[seen[channel]]}) and {index + 1} ({table.names[index]})"
            raise InputError(table.source, "a column stands twice", key=table.names[index], expected="one", found=found)
        seen[channel] = index


def _lost(table: Table, values: Channels) -> Bool[np.ndarray, "rows"]:
    """Rows in which the face was lost: a value is missing that other rows have, or none was counted."""
    used = [v for v in values.values() if np.isfinite(v).any()]
    if not used:
        raise InputError(table.source, "there are no values", expected="numbers in the columns of blendshapes")
    lost = ~np.isfinite(np.stack(used)).all(0)
    count = [i for i, name in enumerate(table.names) if spelled(name).key == "blendshapecount"]
    if count:
        uncounted = table.numbers(count[0]) == 0
        lost |= uncounted & (not uncounted.all())
    if lost.all():
        raise InputError(table.source, "every row lacks a value", expected="rows with all values")
    return lost


def _in_our_units(table: Table, columns: Sequence[_Column], values: Channels) -> tuple[Channels, list[str]]:
    """Weights from 0 to 1 and angles in radians, and what was inferred."""
    units = {c.channel: spelled(table.names[c.index]).unit for c in columns}
    index = {c.channel: c.index for c in columns}
    where = lambda channel, row: f"{table.places[row]}, {table.names[index[channel]]}"  # noqa: E731
    scaled = {channel: v * _DECLARED.get(units[channel] or "", 1.0) for channel, v in values.items()}
    notes = []
    for angles, infer in ((False, weight_scale), (True, angle_scale)):
        group = {c: v for c, v in scaled.items() if (c in ANGLES) == angles and units[c] is None}
        scale, note = infer(table.source, group, where)
        scaled |= {channel: v * scale for channel, v in group.items()}
        notes += [note] if note else []
    return scaled, notes


# -- times -------------------------------------------------------------------------------------------------------


def _times(table: Table, stated: float | None, fps: float | None) -> tuple[Times, float | None, str]:
    """Seconds of every row, rows a second where no clock says it, and where they are from."""
    names, counted = table.names, None
    for index in clock_columns(names):
        clock = read_clock(names[index], table.cells(index))
        if clock is not None and not clock.counts_frames:
            return clock.times, None, f"{names[index]} {clock.note}"
        counted = counted or (clock and (index, clock))
    rate = stated or fps or RECORDED_FPS
    source = "the file says so" if stated else "--fps says so" if fps else "the file does not say it, --fps sets it"
    if counted is None:
        unread = [names[index] for index in clock_columns(names)]
        told = f"{', '.join(unread)} is not understood, {source}" if unread and len(table.rows) > 1 else source
        return np.arange(len(table.rows)) / rate, rate, told
    index, clock = counted
    steps = np.diff(np.unique(clock.times[np.isfinite(clock.times)]))
    step = float(np.median(steps)) if len(steps) else 1.0
    return clock.times / step / rate, rate, f"{names[index]} {clock.note}, {source}"


def _commented_rate(table: Table) -> float | None:
    """The rate that the lines before the header state."""
    found = next((match for line in table.comments[:-1] if (match := _RATE.search(line))), None)
    return float(found[1]) if found and 0 < float(found[1]) <= 1000 else None


def _kept(table: Table, times: Times) -> tuple[Int[np.ndarray, "kept"], list[str]]:
    """The rows that are used, in order of time."""
    notes = []
    timed = np.flatnonzero(np.isfinite(times))
    if len(timed) < len(times):
        notes.append(f"{len(times) - len(timed)} rows without a time are left out")
    order = timed[np.argsort(times[timed], kind="stable")]
    new = np.concatenate([[True], np.diff(times[order]) > 1e-6])
    back = np.diff(times[timed]) < 0
    if back.any():
        first = table.places[int(timed[1:][back][0])]
        if len(times) > 20 * back.sum() and (~new).sum() > len(times) / 10:
            raise InputError(table.source, "the clock begins again", key=first, expected="one recording in one file")
        notes.append(f"rows are not in order of time ({first} is the first): they are sorted")
    if not new.all():
        notes.append(f"{(~new).sum()} rows repeat the time of another: the first of them counts")
    return order[new], notes


def _pauses(table: Table, times: Times, kept: Int[np.ndarray, "kept"], rate: float) -> list[str]:
    """What is said about steps over rows that are missing."""
    steps = np.diff(times)
    wide = np.flatnonzero(steps > 1.75 / rate)
    if not len(wide):
        return []
    longest = int(steps.argmax())
    if steps[longest] > _LONGEST_PAUSE:
        raise InputError(
            table.source,
            "a pause that is too long",
            key=f"{table.places[kept[longest]]} to {table.places[kept[longest + 1]]}",
            expected=f"at most {_LONGEST_PAUSE:g} s between rows",
            found=f"{steps[longest]:.6g} s",
        )
    filled = float((steps[wide] - 1 / rate).sum())
    where = f"{len(wide)} pauses" if len(wide) > 1 else f"one pause, after {times[longest]:.2f} s"
    return [f"{filled:.2f} s without rows ({where}) are filled from both sides"]


def _lost_note(table: Table, lost: Bool[np.ndarray, "kept"], kept: Int[np.ndarray, "kept"]) -> list[str]:
    if not lost.any():
        return []
    first = table.places[kept[int(lost.argmax())]]
    return [f"{lost.sum()} rows without a face, from {first} on, are filled from the rows around them"]


def _column_notes(table: Table, columns: Sequence[_Column], values: Channels) -> list[str]:
    """Columns that are missing, and those that are not used."""
    present = {c.channel for c in columns if np.isfinite(values[c.channel]).any()}
    named = present | {f"{channel}{side}" for channel in present for side in ("Left", "Right")}
    missing = [name for name in arkit_names() if name not in named]
    read = {c.index for c in columns} | set(clock_columns(table.names))
    unused = [n for i, n in enumerate(table.names) if n and i not in read and not spelled(n).key.startswith(_NEEDLESS)]
    notes = [f"columns that are missing stay at rest: {', '.join(missing)}"] if missing else []
    return [*notes, *([f"columns that are not used: {', '.join(unused)}"] if unused else [])]


def no_motion(source: Path, table: Table) -> InputError:
    """The refusal of a table that moves no face."""
    return InputError(
        source,
        "neither a recording of ARKit's blendshapes nor keyframes",
        expected="columns named EyeBlinkLeft ... TongueOut (52 of them), or a column time and channels",
        found=f"{len(channel_columns(table.names))} of them among {len(table.names)} columns: "
        f"{', '.join(table.names[:8])}{' ...' if len(table.names) > 8 else ''}",
    )
