"""Recordings of ARKit's blendshapes: tables with one row per frame, with or without a clock.

Columns may come in any order and spelling; missing blendshapes stay at rest. HeadYaw, HeadPitch and HeadRoll turn the
head. Columns of eye angles repeat the eyeLook blendshapes and are not read. A row without values, or whose
`BlendshapeCount` is 0, is a frame in which the face was lost; it is filled from the rows around it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from partnerface_ns.common.errors import InputError
from partnerface_ns.driving.blendshape_names import channel_names, find_channel, normalize
from partnerface_ns.driving.clock import clock_columns, read_clock
from partnerface_ns.driving.resampling import Channels, Times, infer_rate
from partnerface_ns.driving.rig import arkit_names
from partnerface_ns.driving.table import Table
from partnerface_ns.driving.units import ANGLES, UNIT_SCALES, infer_angle_scale, infer_weight_scale

RECORDED_FPS = 60.0
"""Rows per second where nothing states a rate."""
MANY_BLENDSHAPES = 26
"""Half of ARKit's blendshapes. A table with as many is a recording."""
_LONGEST_PAUSE = 600.0
"""Seconds without rows that are filled at most."""
_RATE = re.compile(r"(?:fps|frame[ _]?rate)\W{1,3}(\d+(?:\.\d+)?)", re.IGNORECASE)
_REDUNDANT = ("eyeyaw", "eyepitch", "eyeroll", "blendshapecount", "neutral", "unnamed")
"""Key prefixes of columns that add nothing; they are not reported as unused."""


class Recording(NamedTuple):
    """The curves of a recording."""

    times: Times
    """Seconds since the first row, increasing."""
    channels: Channels
    """Values at these times; NaN where the face was lost."""
    fps: float
    """Rows per second."""
    notes: tuple[str, ...]
    """Messages for the user about how the table was read."""


class _Column(NamedTuple):
    channel: str
    index: int


def channel_columns(names: Sequence[str]) -> list[_Column]:
    """The columns that move a face, in order."""
    known = channel_names(arkit_names())
    channels = ((find_channel(name, known), index) for index, name in enumerate(names))
    return [_Column(channel, index) for channel, index in channels if channel is not None]


def is_recording(table: Table) -> bool:
    """Whether a table has many blendshapes, a clock beside some, or mostly columns of blendshapes."""
    columns = channel_columns(table.names)
    named = sum(bool(name) for name in table.names)
    has_most = len(columns) >= MANY_BLENDSHAPES or 2 * len(columns) >= named
    return bool(columns) and (has_most or bool(clock_columns(table.names)))


def read_recording(table: Table, stated_fps: float | None = None, fps: float | None = None) -> Recording:
    """Read the curves of a table for which `is_recording` holds.

    Args:
        table: the table.
        stated_fps: rows per second that the file states. A clock column takes precedence.
        fps: rows per second to assume where the file states none; None assumes 60.

    Raises:
        InputError: a column occurs twice, a cell is not a number, or a unit is ambiguous.
    """
    columns = channel_columns(table.names)
    _refuse_repeated(table, columns)
    values = {c.channel: table.numbers(c.index) for c in columns}
    lost = _lost_rows(table, values)
    values = {channel: np.where(lost, np.nan, v) for channel, v in values.items()}
    values, unit_notes = _convert_units(table, columns, values)
    times, rate, clock_note = _row_times(table, stated_fps or _commented_rate(table), fps)
    kept, order_notes = _rows_in_order(table, times)
    times, lost = times[kept] - times[kept[0]], lost[kept]
    rate = rate or infer_rate(times) or RECORDED_FPS
    pause_notes = _pause_notes(table, times, kept, rate)
    count = f"{len(times)} rows" if len(times) > 1 else "one row, a single frame"
    notes = [f"{count}, {times[-1] + 1 / rate:.2f} s at {rate:.4g} fps: {clock_note}"]
    notes += [*table.notes, *unit_notes, *order_notes, *pause_notes, *_lost_notes(table, lost, kept)]
    notes += _column_notes(table, columns, values)
    return Recording(times, {channel: v[kept] for channel, v in values.items()}, rate, tuple(notes))


def no_motion_error(table: Table) -> InputError:
    """The error for a table that is neither a recording nor keyframes."""
    listed = f"{', '.join(table.names[:8])}{' ...' if len(table.names) > 8 else ''}"
    return InputError(
        table.source,
        "neither a recording of ARKit's blendshapes nor keyframes",
        expected="columns named EyeBlinkLeft ... TongueOut (52 of them), or a column time and channels",
        actual=f"{len(channel_columns(table.names))} of them among {len(table.names)} columns: {listed}",
    )


# -- values ------------------------------------------------------------------------------------------------------


def _refuse_repeated(table: Table, columns: Sequence[_Column]) -> None:
    seen: dict[str, int] = {}
    for channel, index in columns:
        if channel in seen:
            both = f"columns {seen[channel] + 1} ({table.names[seen[channel]]}) and {index + 1} ({table.names[index]})"
            raise InputError(table.source, "a column occurs twice", key=table.names[index], expected="one", actual=both)
        seen[channel] = index


def _lost_rows(table: Table, values: Channels) -> Bool[np.ndarray, "rows"]:
    """Rows in which the face was lost: a value is missing that other rows have, or the blendshape count is 0."""
    used = [v for v in values.values() if np.isfinite(v).any()]
    if not used:
        raise InputError(table.source, "there are no values", expected="numbers in the columns of blendshapes")
    lost = ~np.isfinite(np.stack(used)).all(0)
    count_columns = [i for i, name in enumerate(table.names) if normalize(name).key == "blendshapecount"]
    if count_columns:
        is_zero = table.numbers(count_columns[0]) == 0
        lost |= is_zero & (not is_zero.all())
    if lost.all():
        raise InputError(table.source, "every row lacks a value", expected="rows with all values")
    return lost


def _convert_units(table: Table, columns: Sequence[_Column], values: Channels) -> tuple[Channels, list[str]]:
    """Weights from 0 to 1 and angles in radians, and notes on inferred units."""
    units = {c.channel: normalize(table.names[c.index]).unit for c in columns}
    index = {c.channel: c.index for c in columns}
    locate = lambda channel, row: f"{table.places[row]}, {table.names[index[channel]]}"  # noqa: E731
    scaled = {channel: v * UNIT_SCALES.get(units[channel] or "", 1.0) for channel, v in values.items()}
    notes = []
    for angles, infer in ((False, infer_weight_scale), (True, infer_angle_scale)):
        group = {c: v for c, v in scaled.items() if (c in ANGLES) == angles and units[c] is None}
        scale, note = infer(table.source, group, locate)
        scaled |= {channel: v * scale for channel, v in group.items()}
        notes += [note] if note else []
    return scaled, notes


# -- times -------------------------------------------------------------------------------------------------------


def _row_times(table: Table, stated_fps: float | None, fps: float | None) -> tuple[Times, float | None, str]:
    """Seconds of every row, rows per second where no clock gives it, and a note on the source of both."""
    names, counter = table.names, None
    for index in clock_columns(names):
        clock = read_clock(names[index], table.cells(index))
        if clock is not None and not clock.counts_frames:
            return clock.times, None, f"{names[index]} {clock.note}"
        counter = counter or (clock and (index, clock))
    rate = stated_fps or fps or RECORDED_FPS
    if stated_fps:
        origin = "the rate is stated by the file"
    else:
        origin = "the rate is set by --fps" if fps else "the rate is assumed; --fps sets it"
    if counter is None:
        unread = [names[index] for index in clock_columns(names)]
        note = f"{', '.join(unread)} is not understood; {origin}" if unread and len(table.rows) > 1 else origin
        return np.arange(len(table.rows)) / rate, rate, note
    index, clock = counter
    steps = np.diff(np.unique(clock.times[np.isfinite(clock.times)]))
    step = float(np.median(steps)) if len(steps) else 1.0
    return clock.times / step / rate, rate, f"{names[index]} {clock.note}; {origin}"


def _commented_rate(table: Table) -> float | None:
    """The rate that the lines before the header state."""
    match = next((match for line in table.comments[:-1] if (match := _RATE.search(line))), None)
    return float(match[1]) if match and 0 < float(match[1]) <= 1000 else None


def _rows_in_order(table: Table, times: Times) -> tuple[Int[np.ndarray, "kept"], list[str]]:
    """Indices of the rows that are used, in order of time, and notes."""
    notes = []
    timed = np.flatnonzero(np.isfinite(times))
    if len(timed) < len(times):
        notes.append(f"{len(times) - len(timed)} rows without a time are left out")
    order = timed[np.argsort(times[timed], kind="stable")]
    is_new = np.concatenate([[True], np.diff(times[order]) > 1e-6])
    backward = np.diff(times[timed]) < 0
    if backward.any():
        first = table.places[int(timed[1:][backward][0])]
        if len(times) > 20 * backward.sum() and (~is_new).sum() > len(times) / 10:
            raise InputError(table.source, "the clock starts again", key=first, expected="one recording per file")
        notes.append(f"rows are not in order of time (the first is {first}): they are sorted")
    if not is_new.all():
        notes.append(f"{(~is_new).sum()} rows repeat an earlier time: only the first row of each time is used")
    return order[is_new], notes


def _pause_notes(table: Table, times: Times, kept: Int[np.ndarray, "kept"], rate: float) -> list[str]:
    """A note on missing rows.

    Raises:
        InputError: a pause is too long.
    """
    steps = np.diff(times)
    wide = np.flatnonzero(steps > 1.75 / rate)
    if not len(wide):
        return []
    longest = int(steps.argmax())
    if steps[longest] > _LONGEST_PAUSE:
        raise InputError(
            table.source,
            "a pause is too long",
            key=f"{table.places[kept[longest]]} to {table.places[kept[longest + 1]]}",
            expected=f"at most {_LONGEST_PAUSE:g} s between rows",
            actual=f"{steps[longest]:.6g} s",
        )
    filled = float((steps[wide] - 1 / rate).sum())
    where = f"{len(wide)} pauses" if len(wide) > 1 else f"one pause, after {times[longest]:.2f} s"
    return [f"{filled:.2f} s without rows ({where}) are interpolated"]


def _lost_notes(table: Table, lost: Bool[np.ndarray, "kept"], kept: Int[np.ndarray, "kept"]) -> list[str]:
    if not lost.any():
        return []
    first = table.places[kept[int(lost.argmax())]]
    return [f"{lost.sum()} rows without a face (the first is {first}) are interpolated"]


def _column_notes(table: Table, columns: Sequence[_Column], values: Mapping[str, np.ndarray]) -> list[str]:
    """Notes on missing blendshapes and on unused columns."""
    present = {c.channel for c in columns if np.isfinite(values[c.channel]).any()}
    covered = present | {f"{channel}{side}" for channel in present for side in ("Left", "Right")}
    missing = [name for name in arkit_names() if name not in covered]
    read = {c.index for c in columns} | set(clock_columns(table.names))
    unread = (name for index, name in enumerate(table.names) if name and index not in read)
    unused = [name for name in unread if not normalize(name).key.startswith(_REDUNDANT)]
    notes = [f"blendshapes without a column stay at rest: {', '.join(missing)}"] if missing else []
    return [*notes, *([f"columns that are not used: {', '.join(unused)}"] if unused else [])]
