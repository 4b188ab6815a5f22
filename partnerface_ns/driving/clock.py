"""When the rows of a recording were taken: timecodes, timestamps and frame numbers as seconds.

- `HH:MM:SS:FF`, with `;` before the frames for drop-frame, and with a fraction of a frame (`.125`)
- `HH:MM:SS:mmm`, `HH:MM:SS.mmm`, each with a date before it or not
- the same without hours; `HH:MM:SS` alone
- numbers that count seconds, milliseconds, microseconds or nanoseconds, from 0 or since 1970
- numbers that count frames: these do not say how long a frame lasts
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from partnerface_ns.driving.blendshape_names import spelled
from partnerface_ns.driving.table import to_number

_CODE = re.compile(r"(?:(\d{4}-\d\d-\d\d)[T ])?(\d+(?::\d+){1,2})(?:([:;.,])(\d+)(?:[.,](\d+))?)?(?:Z|[+-]\d\d:?\d\d)?")
_RATES = (24, 25, 30, 48, 50, 60, 100, 120, 240)
"""Frames that timecodes count in a second."""
_DAY, _HOUR = 86400.0, 3600.0
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_SHORTEST, _LONGEST = 1 / 250, 1 / 4
"""Seconds between rows, from which the unit of a number is told."""
_FRAMES_APART = 4
"""Largest step of numbers that may count frames."""
_KINDS = (
    ("timecode", "smpte"),
    ("timestamp", "datetime"),
    ("time", "t", "elapsed", "elapsedtime", "pts", "relativetime", "unixtime", "clock", ""),
    ("frame", "frames", "frameindex", "framenumber", "framenum", "frameid", "framecount"),
)
"""Names of columns that hold a clock, the best kind first; a unit alone is one as well."""


class Clock(NamedTuple):
    """When every row was taken."""

    times: Float[np.ndarray, "rows"]
    """Seconds, or frames where `counts_frames`; NaN where a row does not say it."""
    counts_frames: bool
    """Whether the times are frame numbers, whose rate is not known."""
    note: str
    """How the column is read, in words."""


def clock_columns(names: Sequence[str]) -> list[int]:
    """Indices of the columns that hold a clock, the best one first."""
    found = []
    for kind in _KINDS:
        for index, name in enumerate(names):
            key, unit = spelled(name)
            named = key in kind or (kind[0] == "timestamp" and key.startswith("timestamp"))
            if named and (key or unit in _SECONDS):
                found.append(index)
    return found


def read_clock(name: str, cells: Sequence[str], sparse: bool = False) -> Clock | None:
    """The clock in a column; None where its cells are neither timecodes nor numbers, or do not move.

    Args:
        name: of the column.
        cells: of the column.
        sparse: rows may be seconds apart, so a last group that moves with every row may count seconds.
    """
    codes = [_CODE.fullmatch(cell.strip()) for cell in cells]
    read = (
        _from_codes(codes, sparse)
        if sum(code is not None for code in codes) > len(cells) / 2
        else _from_numbers(name, cells)
    )
    if read is None:
        return None
    known = read.times[np.isfinite(read.times)]
    moves = len(known) > len(cells) / 2 and (len(cells) == 1 or np.ptp(known) > 0)
    return read._replace(times=_spread(read.times)) if moves else None


# -- timecodes ---------------------------------------------------------------------------------------------------


class _Code(NamedTuple):
    """A timecode in pieces."""

    days: float
    groups: tuple[int, ...]
    mark: str
    last: str
    fraction: str


def _from_codes(matches: Sequence[re.Match[str] | None], sparse: bool) -> Clock:
    codes = [None if match is None else _pieces(match) for match in matches]
    known = [code for code in codes if code is not None]
    period = _DAY if max(len(code.groups) for code in known) == 3 else _HOUR
    shape = Counter((code.mark if code.mark in ":;" and code.mark else "") for code in known).most_common(1)[0][0]
    if shape:
        return _from_frames(codes, period, shape == ";")
    seconds = np.array([_whole(code) + float(f"0.{code.last or 0}") if code else np.nan for code in codes])
    if not sparse and _counts_frames(seconds):  # minutes, seconds and frames: the last group moves with every row
        shifted = [
            code and code._replace(groups=code.groups[:-1], last=str(code.groups[-1]), fraction=code.last)
            for code in codes
        ]
        return _from_frames(shifted, _HOUR, drop=False)
    return Clock(_unwrapped(seconds, period), False, "counts hours, minutes and seconds")


def _pieces(match: re.Match[str]) -> _Code:
    day, groups, mark, last, fraction = match.groups()
    try:
        days = date.fromisoformat(day).toordinal() if day else 0
    except ValueError:  # a day that is in no calendar says nothing
        days = 0
    return _Code(days * _DAY, tuple(int(g) for g in groups.split(":")), mark or "", last or "", fraction or "")


def _whole(code: _Code) -> float:
    return code.days + sum(group * 60.0**place for place, group in enumerate(reversed(code.groups)))


def _counts_frames(seconds: Float[np.ndarray, "rows"]) -> bool:
    """Whether what was read as whole seconds moves with every row or two."""
    known = np.sort(seconds[np.isfinite(seconds)])
    steps = np.diff(known)
    steps = steps[steps > 0]
    per_value = np.median(list(Counter(known.tolist()).values()))
    return bool(len(steps) > 1 and np.median(steps) >= 0.5 and per_value < 3)


def _from_frames(codes: Sequence[_Code | None], period: float, drop: bool) -> Clock:
    known = [code for code in codes if code is not None and code.last]
    frames = np.array([int(code.last) for code in known])
    seconds = np.array([_whole(code) for code in known])
    order = np.lexsort((frames, seconds))
    steps = np.diff(frames[order])[np.diff(seconds[order]) == 0]
    step = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0
    long = max(len(code.last) for code in known) >= 3 or frames.max() >= 60
    if long and (frames.max() >= 240 or step > 4):
        times = np.array([_whole(c) + int(c.last) / 1000 if c and c.last else np.nan for c in codes])
        return Clock(_unwrapped(times, period), False, "counts milliseconds after the last mark")
    part = np.array([int(c.last) + float(f"0.{c.fraction or 0}") if c and c.last else np.nan for c in codes])
    whole = np.array([_whole(c) if c and c.last else np.nan for c in codes])
    if len(np.unique(seconds)) == 1:
        return Clock(part, True, "counts frames within one second")
    rate = _frame_rate(seconds, frames, int(step))
    if not drop or rate % 30:
        return Clock(_unwrapped(whole + part / rate, period), False, f"counts {rate} frames a second")
    minutes = np.floor(_unwrapped(whole, period) / 60)
    left_out = rate // 15 * (minutes - np.floor(minutes / 10))
    times = (_unwrapped(whole, period) * rate + part - left_out) * 1001 / (1000 * rate)
    return Clock(times, False, f"counts {rate * 1000 / 1001:.2f} frames a second, drop-frame")


def _frame_rate(seconds: np.ndarray, frames: np.ndarray, step: int) -> int:
    """Frames in a second: one step after the last that is seen, if that is usual or all seconds say it."""
    last = {second: int(frames[seconds == second].max()) for second in np.unique(seconds)}
    highest = max(last.values())
    count = highest + max(step, 1)
    middle = list(last.values())[1:-1]
    if count in _RATES or (middle and sum(value == highest for value in middle) >= len(middle) / 2):
        return count
    return next((rate for rate in _RATES if rate > highest), highest + 1)


def _unwrapped(times: Float[np.ndarray, "rows"], period: float) -> Float[np.ndarray, "rows"]:
    """Times after midnight, or after the full hour where no hours are counted, go on."""
    steps = np.diff(times[np.isfinite(times)])
    if len(steps) and np.nanmax(times) - np.nanmin(times) > period / 2 and steps.min() < -period / 2:
        return np.where(times % period < period / 2, times + period, times)
    return times


# -- numbers -----------------------------------------------------------------------------------------------------


def _from_numbers(name: str, cells: Sequence[str]) -> Clock | None:
    try:
        values = np.array([to_number(cell) for cell in cells])
    except ValueError:
        return None
    known = np.sort(values[np.isfinite(values)])
    if not len(known):
        return None
    values = values - known[0]
    key, unit = spelled(name)
    if unit in _SECONDS:
        return Clock(values * _SECONDS[unit], False, f"counts {_WORDS[unit]}")
    distinct, counts = np.unique(known, return_counts=True)
    step = float(np.median(np.diff(distinct))) if len(distinct) > 1 else 1.0
    between = step / float(np.median(counts))  # several rows may share a coarse time
    if key not in _KINDS[3]:
        for unit, scale in _SECONDS.items():
            if between * scale * (1 + 1e-6) >= _SHORTEST and between * scale <= _LONGEST:
                return Clock(values * scale, False, f"counts {_WORDS[unit]}")
    return Clock(values, True, "counts frames") if 0 < step <= _FRAMES_APART else None


def _spread(times: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
    """Rows that follow each other and share a coarse time, two or more each, spread evenly until the next time."""
    known = times[np.isfinite(times)]
    counts = Counter(known.tolist())
    runs = int((np.diff(known) != 0).sum()) + 1
    if len(counts) < 2 or runs > len(counts) or np.median(list(counts.values())) < 2:
        return times
    values = sorted(counts)
    step = float(np.median(np.diff(values)))
    rows = float(np.median(list(counts.values())))
    seen: Counter[float] = Counter()
    found = times.copy()
    first = values[0]
    for index, value in enumerate(times.tolist()):
        if not np.isfinite(value):
            continue
        # The first time may have begun before the recording: its rows end where the next time begins.
        skipped = max(0.0, rows - counts[value]) if value == first else 0.0
        found[index] = value + step * (skipped + seen[value]) / max(rows, counts[value] + skipped)
        seen[value] += 1
    return found
