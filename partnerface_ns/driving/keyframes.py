"""Keyframes of named channels (`rig.py` lists them), smoothly interpolated.

JSON: `{"keyframes": [{"time": 0.0, "mouthSmile": 0.0}, {"time": 1.2, "mouthSmile": 0.8, "jaw": 0.1}]}`.
CSV: a column `time` and one a channel; an empty cell is no key. Times are seconds from 0, in order. Between the keys of
a channel the curve is smooth and never leaves their range; before the first and after the last it stays. A channel
without keys is 0.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from partnerface_ns.capture.record import MAX_NUMBER, Record
from partnerface_ns.errors import SubjectError
from partnerface_ns.files import require_file, shortened

Channels = dict[str, Float[np.ndarray, "timesteps"]]
Keys = Sequence[tuple[float, float]]
MAX_BYTES = 64 << 20
_MAX_SECONDS = 3600.0
_TIME = "time"


def read_keyframes(path: Path, fps: float) -> tuple[Channels, float]:
    """The curves of a keyframe file at `fps` moments a second, and `fps` again.

    Raises:
        SubjectError: not such a file; names row and column, or key.
    """
    rows = _json_rows(path) if path.suffix.lower() == ".json" else _csv_rows(path)
    times = [row.get(_TIME, -1.0) for row in rows]
    for index, (before, after) in enumerate(zip([-1e-9, *times], times, strict=False)):
        if not before < after <= _MAX_SECONDS:
            expected = f"after the one before, at most {_MAX_SECONDS:g}"
            raise SubjectError(path, "times are not in order", key=f"keyframe {index}", expected=expected, found=after)
    names = dict.fromkeys(name for row in rows for name in row if name != _TIME)
    if not names:
        raise SubjectError(path, "there are no keyframes", expected="times and at least one channel", found=len(rows))
    keys = {name: [(t, row[name]) for t, row in zip(times, rows, strict=True) if name in row] for name in names}
    return interpolated(keys, math.floor(times[-1] * fps + 1e-6) + 1, fps), fps


def interpolated(keys: Mapping[str, Keys], num: int, fps: float) -> Channels:
    """Curves through (seconds, value) keys at `num` moments, `fps` of them a second."""
    time = np.arange(num) / fps
    return {name: _curve(points, time) for name, points in keys.items()}


def _curve(points: Keys, time: Float[np.ndarray, "timesteps"]) -> Float[np.ndarray, "timesteps"]:
    at, values = np.array(points, dtype=float).T
    # Keys that repeat the first and the last value let the curve leave and reach them without a jerk.
    at = np.concatenate([[at[0] - 1], at, [at[-1] + 1]])
    curve = PchipInterpolator(at, np.pad(values, 1, mode="edge"))
    return np.clip(curve(np.clip(time, at[0], at[-1])), values.min(), values.max())


def _json_rows(path: Path) -> list[dict[str, float]]:
    records = Record.read(path).records("keyframes")
    return [{name: record.number(name) for name in record.values} | {_TIME: record.number(_TIME)} for record in records]


def _csv_rows(path: Path) -> list[dict[str, float]]:
    names, table = read_table(path)
    names = [_TIME if name.lower() == _TIME else name for name in names]
    return [
        {name: number(cell, path, line, name) for name, cell in zip(names, row, strict=True) if cell.strip()}
        for line, row in table
    ]


def read_table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Column names of a CSV, and its rows with their line numbers.

    Raises:
        SubjectError: missing, too large, not text, or a row of another length than the header.
    """
    require_file(path, max_bytes=MAX_BYTES)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            if file.read(1) in ("{", "["):
                raise SubjectError(path, "holds JSON", expected="a CSV", hint="name it .json if it holds keyframes")
            file.seek(0)
            reader = csv.reader(file)
            names = [name.strip() for name in next(reader, [])]
            table = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SubjectError(path, "not a CSV file that can be read", found=shortened(error)) from error
    if len(names) == 1 and ";" in names[0]:
        raise SubjectError(path, "columns are separated by semicolons", expected="commas")
    for line, row in table:
        if len(row) != len(names):
            raise SubjectError(
                path, "a row of another length", key=f"line {line}", expected=len(names), found=f"{len(row)} cells"
            )
    if not table:
        found = "nothing" if not names else f"a header of {len(names)} columns alone"
        raise SubjectError(path, "there are no rows", expected="a header and at least one row", found=found)
    return names, table


def number(cell: str, path: Path, line: int, name: str) -> float:
    """A cell as a number.

    Raises:
        SubjectError: it is none, or too large.
    """
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not abs(value) <= MAX_NUMBER:
        raise SubjectError(path, "wrong value", key=f"line {line}, {name}", expected="a number", found=shortened(cell))
    return value
