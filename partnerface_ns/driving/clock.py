"""Clock columns: timecodes, timestamps and frame numbers of the rows of a recording, in seconds.

- `HH:MM:SS:FF`; drop-frame with `;` before the frames; `.125` after them is a fraction of a frame
- `HH:MM:SS:mmm` and `HH:MM:SS.mmm`, with or without a date in front
- all of these without hours, and plain `HH:MM:SS`
- numbers of seconds, milliseconds, microseconds or nanoseconds, from 0 or since 1970
- frame numbers, which do not determine the duration of a frame
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from partnerface_ns.driving.blendshape_names import normalize
from partnerface_ns.driving.table import to_number

_CODE = re.compile(r"(?:(\d{4}-\d\d-\d\d)[T ])?(\d+(?::\d+){1,2})(?:([:;.,])(\d+)(?:[.,](\d+))?)?(?:Z|[+-]\d\d:?\d\d)?")
_TIMECODE_RATES = (24, 25, 30, 48, 50, 60, 100, 120, 240)
"""Frames per second that timecodes count."""
_DAY, _HOUR = 86400.0, 3600.0
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_SHORTEST, _LONGEST = 1 / 250, 1 / 4
"""Plausible seconds between rows, from which the unit of numbers is inferred."""
_MAX_FRAME_STEP = 4
"""Largest step between frame numbers."""
_KINDS = (
    ("timecode", "smpte"),
    ("timestamp", "datetime"),
    ("time", "t", "elapsed", "elapsedtime", "pts", "relativetime", "unixtime", "clock", ""),
    ("frame", "frames", "frameindex", "framenumber", "framenum", "frameid", "framecount"),
)
"""Keys of clock columns, the best kind first. The empty key is a name that is only a unit."""


class Clock(NamedTuple):
    """The times of rows."""

    times: Float[np.ndarray, "rows"]
    """Seconds, or frame numbers if `counts_frames`; NaN where a row has no time."""
    counts_frames: bool
    """Whether the times are frame numbers, whose rate is unknown."""
    note: str
    """How the column is read, for the user: a verb and its object."""


def clock_columns(names: Sequence[str]) -> list[int]:
    """Indices of the columns that hold a clock, the best one first."""
    indices = []
    for kind in _KINDS:
        for index, name in enumerate(names):
            key, unit = normalize(name)
            is_kind = key in kind or (kind[0] == "timestamp" and key.startswith("timestamp"))
            if is_kind and (key or unit in _SECONDS):
                indices.append(index)
    return indices


def read_clock(name: str, cells: Sequence[str], sparse: bool = False) -> Clock | None:
    """Read a clock column; None if its cells are neither timecodes nor numbers, or do not change.

    Args:
        name: the name of the column.
        cells: the cells of the column.
        sparse: whether rows may be seconds apart. A last group that changes with every row then counts seconds.
    """
    codes = [_CODE.fullmatch(cell.strip()) for cell in cells]
    has_codes = sum(code is not None for code in codes) > len(cells) / 2
    clock = _clock_of_codes(codes, sparse) if has_codes else _clock_of_numbers(name, cells)
    if clock is None:
        return None
    known = clock.times[np.isfinite(clock.times)]
    changes = len(known) > len(cells) / 2 and (len(cells) == 1 or np.ptp(known) > 0)
    return clock._replace(times=_spread_shared_times(clock.times)) if changes else None


# -- timecodes ---------------------------------------------------------------------------------------------------


class _Code(NamedTuple):
    """The parts of a timecode."""

    day: float
    """The date in seconds; 0 without a date."""
    groups: tuple[int, ...]
    """Hours, minutes and seconds, or minutes and seconds."""
    mark: str
    """The character before `last`."""
    last: str
    """The digits of the last group: frames, milliseconds or decimals."""
    fraction: str
    """The decimals of a frame."""


def _clock_of_codes(matches: Sequence[re.Match[str] | None], sparse: bool) -> Clock:
    codes = [None if match is None else _parse(match) for match in matches]
    known = [code for code in codes if code is not None]
    period = _DAY if max(len(code.groups) for code in known) == 3 else _HOUR
    shape = Counter((code.mark if code.mark in ":;" and code.mark else "") for code in known).most_common(1)[0][0]
    if shape:
        return _clock_of_frame_codes(codes, period, shape == ";")
    seconds = np.array([_whole_seconds(code) + float(f"0.{code.last or 0}") if code else np.nan for code in codes])
    if not sparse and _counts_frames(seconds):  # minutes, seconds and frames: the last group changes with every row
        shifted = [
            code and code._replace(groups=code.groups[:-1], last=str(code.groups[-1]), fraction=code.last)
            for code in codes
        ]
        return _clock_of_frame_codes(shifted, _HOUR, drop=False)
    return Clock(_unwrap(seconds, period), False, "counts hours, minutes and seconds")


def _parse(match: re.Match[str]) -> _Code:
    day, groups, mark, last, fraction = match.groups()
    try:
        days = date.fromisoformat(day).toordinal() if day else 0
    except ValueError:  # an impossible date is ignored
        days = 0
    return _Code(days * _DAY, tuple(int(g) for g in groups.split(":")), mark or "", last or "", fraction or "")


def _whole_seconds(code: _Code) -> float:
    return code.day + sum(group * 60.0**place for place, group in enumerate(reversed(code.groups)))


def _counts_frames(seconds: Float[np.ndarray, "rows"]) -> bool:
    """Whether values that were read as whole seconds change with every row or two."""
    known = np.sort(seconds[np.isfinite(seconds)])
    steps = np.diff(known)
    steps = steps[steps > 0]
    per_value = np.median(list(Counter(known.tolist()).values()))
    return bool(len(steps) > 1 and np.median(steps) >= 0.5 and per_value < 3)


def _clock_of_frame_codes(codes: Sequence[_Code | None], period: float, drop: bool) -> Clock:
    """The clock of timecodes whose last group counts frames or milliseconds.

    Args:
        codes: a timecode for each row, None where it is missing.
        period: seconds after which the timecodes wrap.
        drop: whether they are drop-frame timecodes.
    """
    known = [code for code in codes if code is not None and code.last]
    frames = np.array([int(code.last) for code in known])
    seconds = np.array([_whole_seconds(code) for code in known])
    order = np.lexsort((frames, seconds))
    steps = np.diff(frames[order])[np.diff(seconds[order]) == 0]
    step = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0
    is_long = max(len(code.last) for code in known) >= 3 or frames.max() >= 60
    if is_long and (frames.max() >= 240 or step > 4):
        times = np.array([_whole_seconds(c) + int(c.last) / 1000 if c and c.last else np.nan for c in codes])
        return Clock(_unwrap(times, period), False, "counts milliseconds in its last group")
    part = np.array([int(c.last) + float(f"0.{c.fraction or 0}") if c and c.last else np.nan for c in codes])
    whole = np.array([_whole_seconds(c) if c and c.last else np.nan for c in codes])
    if len(np.unique(seconds)) == 1:
        return Clock(part, True, "counts frames within one second")
    rate = _frame_rate(seconds, frames, int(step))
    if not drop or rate % 30:
        return Clock(_unwrap(whole + part / rate, period), False, f"counts {rate} frames per second")
    minutes = np.floor(_unwrap(whole, period) / 60)
    dropped = rate // 15 * (minutes - np.floor(minutes / 10))
    times = (_unwrap(whole, period) * rate + part - dropped) * 1001 / (1000 * rate)
    return Clock(times, False, f"counts {rate * 1000 / 1001:.2f} frames per second, drop-frame")


def _frame_rate(seconds: np.ndarray, frames: np.ndarray, step: int) -> int:
    """Frames per second: the highest frame number plus one step, if that is a common rate or most seconds reach it."""
    last = {second: int(frames[seconds == second].max()) for second in np.unique(seconds)}
    highest = max(last.values())
    count = highest + max(step, 1)
    middle = list(last.values())[1:-1]
    if count in _TIMECODE_RATES or (middle and sum(value == highest for value in middle) >= len(middle) / 2):
        return count
    return next((rate for rate in _TIMECODE_RATES if rate > highest), highest + 1)


def _unwrap(times: Float[np.ndarray, "rows"], period: float) -> Float[np.ndarray, "rows"]:
    """Times that continue after midnight, or after the full hour where hours are not counted."""
    steps = np.diff(times[np.isfinite(times)])
    if len(steps) and np.nanmax(times) - np.nanmin(times) > period / 2 and steps.min() < -period / 2:
        return np.where(times % period < period / 2, times + period, times)
    return times


# -- numbers -----------------------------------------------------------------------------------------------------


def _clock_of_numbers(name: str, cells: Sequence[str]) -> Clock | None:
    try:
        values = np.array([to_number(cell) for cell in cells])
    except ValueError:
        return None
    known = np.sort(values[np.isfinite(values)])
    if not len(known):
        return None
    values = values - known[0]
    key, unit = normalize(name)
    if unit in _SECONDS:
        return Clock(values * _SECONDS[unit], False, f"counts {_WORDS[unit]}")
    distinct, counts = np.unique(known, return_counts=True)
    step = float(np.median(np.diff(distinct))) if len(distinct) > 1 else 1.0
    row_step = step / float(np.median(counts))  # several rows may share a coarse time
    if key not in _KINDS[3]:
        for unit, scale in _SECONDS.items():
            if row_step * scale * (1 + 1e-6) >= _SHORTEST and row_step * scale <= _LONGEST:
                return Clock(values * scale, False, f"counts {_WORDS[unit]}")
    return Clock(values, True, "counts frames") if 0 < step <= _MAX_FRAME_STEP else None


def _spread_shared_times(times: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
    """Times of rows that share coarse times, two or more rows each, spread evenly until the next time."""
    known = times[np.isfinite(times)]
    counts = Counter(known.tolist())
    runs = int((np.diff(known) != 0).sum()) + 1
    if len(counts) < 2 or runs > len(counts) or np.median(list(counts.values())) < 2:
        return times
    values = sorted(counts)
    step = float(np.median(np.diff(values)))
    rows = float(np.median(list(counts.values())))
    seen: Counter[float] = Counter()
    spread = times.copy()
    first = values[0]
    for index, value in enumerate(times.tolist()):
        if not np.isfinite(value):
            continue
        # The recording may begin in the middle of the first time: its rows are aligned to its end.
        skipped = max(0.0, rows - counts[value]) if value == first else 0.0
        spread[index] = value + step * (skipped + seen[value]) / max(rows, counts[value] + skipped)
        seen[value] += 1
    return spread
