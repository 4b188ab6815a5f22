"""Recordings as JSON: a list of frames, names with rows, or columns. Each becomes a table.

- `[{"eyeBlinkLeft": 0.1, ...}, ...]`, or the same under a key such as `frames`; a frame may hold its time, and its
  weights may lie deeper: `{"timestamp": 0.03, "blendShapes": {"eyeBlinkLeft": 0.1}}`
- a frame with a list of categories: `[{"categoryName": "eyeBlinkLeft", "score": 0.1}, ...]`
- `{"names": ["eyeBlinkLeft", ...], "rows": [[0.1, ...], ...]}`, whatever the two keys are called
- `{"eyeBlinkLeft": [0.1, ...], ...}`

A rate may stand beside them: `fps`, `frameRate`, `exportFps`. JSON Lines are a list of frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.driving.blendshape_names import channel_names, find, spelled
from partnerface_ns.driving.clock import clock_columns
from partnerface_ns.driving.rig import arkit_names
from partnerface_ns.driving.table import Table

_FORMS = (
    "keyframes, a list of frames by blendshape's name, names and rows, or a list of numbers for each name "
    "(docs/driving.md)"
)
_RATES = ("fps", "framerate", "exportfps", "framespersecond", "rate")
_LABELS, _SCORES = ("categoryName", "category_name", "displayName", "name", "shape"), ("score", "value", "weight")
_DEPTH = 6
Found = tuple[Table, float | None]
"""A table, and the rate that the file states."""


def parse_json(source: Path, text: str) -> Any:
    """The content of JSON, or a list of the lines of JSON Lines; NaN is no value.

    Raises:
        InputError: it is neither.
    """
    try:
        return json.loads(text, parse_constant=lambda name: None)
    except (ValueError, RecursionError, MemoryError) as error:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            if len(lines) > 1:
                return [json.loads(line, parse_constant=lambda name: None) for line in lines]
        except (ValueError, RecursionError, MemoryError):
            pass
        raise InputError(source, "not a JSON file that can be read", found=shorten(error)) from error


def table_of_json(source: Path, content: object, depth: int = 0) -> Found:
    """The table that JSON holds, `depth` objects inside it.

    Raises:
        InputError: it holds none of the forms above; says which these are.
    """
    if isinstance(content, list):
        return _of_frames(source, content, ()), None
    if not isinstance(content, dict):
        raise _refusal(source, content)
    rate = _rate(source, content)
    lists = {name: value for name, value in content.items() if isinstance(value, list) and value}
    names = next((value for value in lists.values() if _are_names(value)), ())
    for value in lists.values():
        if value is names:
            continue
        if names and all(isinstance(row, list) for row in value):
            return _of_rows(source, names, value, _beside(lists, len(value))), rate
        if any(isinstance(row, dict) for row in value):
            return _of_frames(source, value, names), rate
    columns = {name: value for name, value in lists.items() if _is_known(name) or clock_columns([name])}
    if any(_is_known(name) for name in columns):
        return _of_columns(source, columns), rate
    for value in content.values():
        if isinstance(value, dict) and depth < _DEPTH and any(isinstance(v, (dict, list)) for v in value.values()):
            table, stated = table_of_json(source, value, depth + 1)
            return table, rate or stated
    raise _refusal(source, content)


# -- forms -------------------------------------------------------------------------------------------------------


def _of_frames(source: Path, frames: Sequence[object], names: Sequence[str]) -> Table:
    """A table of frames, each an object that holds values by name somewhere."""
    if not frames or not all(frame is None or isinstance(frame, dict) for frame in frames):
        raise _refusal(source, frames)
    rows: list[dict[str, str]] = []
    twice: dict[str, None] = {}
    for frame in frames:
        row: dict[str, str] = {}
        for name, value in _values(frame, names, 0):
            if name in row:
                twice[name] = None
            row.setdefault(name, value)
        rows.append(row)
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    if not any(_is_known(name) for name in columns):
        raise _refusal(source, frames)
    notes = (f"frames say {', '.join(list(twice)[:3])} more than once: the first of each counts",) if twice else ()
    cells = tuple(tuple(row.get(name, "") for name in columns) for row in rows)
    return Table(source, columns, cells, _places(rows), notes=notes)


def _of_rows(source: Path, names: Sequence[str], rows: Sequence[list], beside: Mapping[str, list]) -> Table:
    for index, row in enumerate(rows):
        if len(row) != len(names):
            raise InputError(
                source, "a row of another length", key=f"row {index}", expected=f"{len(names)} numbers", found=len(row)
            )
    cells = tuple(
        tuple(_cell(value) for value in (*row, *(column[i] for column in beside.values())))
        for i, row in enumerate(rows)
    )
    return Table(source, (*names, *beside), cells, _places(rows))


def _of_columns(source: Path, columns: Mapping[str, list]) -> Table:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shortest = min(lengths, key=lengths.__getitem__)
        raise InputError(
            source, "lists of several lengths", key=shortest, expected=max(lengths.values()), found=lengths[shortest]
        )
    rows = list(zip(*columns.values(), strict=True))
    return Table(source, tuple(columns), tuple(tuple(_cell(v) for v in row) for row in rows), _places(rows))


def _values(value: object, names: Sequence[str], depth: int) -> Iterator[tuple[str, str]]:
    """Names and cells inside a frame."""
    if depth > _DEPTH:
        return
    if isinstance(value, list):
        if names and len(value) == len(names) and not any(isinstance(entry, (dict, list)) for entry in value):
            yield from zip(names, map(_cell, value), strict=True)
        for entry in value:
            if isinstance(entry, (dict, list)):
                yield from _values(entry, names, depth + 1)
    elif isinstance(value, dict):
        label = next((value[key] for key in _LABELS if isinstance(value.get(key), str)), None)
        score = next((key for key in _SCORES if key in value), None)
        if label is not None and score is not None:
            yield label, _cell(value[score])
            return
        for name, entry in value.items():
            if isinstance(entry, (dict, list)):
                yield from _values(entry, names, depth + 1)
            elif not isinstance(entry, str) or clock_columns([name]) or _is_known(name):
                yield name, _cell(entry)


# -- pieces ------------------------------------------------------------------------------------------------------


def _rate(source: Path, content: Mapping[str, object], depth: int = 0) -> float | None:
    """The rate that an object states, or an object in it."""
    for name, value in content.items():
        if spelled(name).key in _RATES and value is not None:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1000:
                expected = "frames a second, above 0, at most 1000"
                raise InputError(source, "wrong value", key=name, expected=expected, found=shorten(value))
            return float(value)
    nested = (value for value in content.values() if isinstance(value, dict)) if depth == 0 else ()
    return next((rate for value in nested if (rate := _rate(source, value, 1))), None)


def _beside(lists: Mapping[str, list], count: int) -> dict[str, list]:
    """Lists of as many entries that hold a clock."""
    return {name: value for name, value in lists.items() if len(value) == count and clock_columns([name])}


def _are_names(value: Sequence[object]) -> bool:
    return all(isinstance(entry, str) for entry in value) and any(_is_known(str(entry)) for entry in value)


def _is_known(name: str) -> bool:
    return find(name, channel_names(arkit_names())) is not None


def _places(rows: Sequence[object]) -> tuple[str, ...]:
    return tuple(f"frame {index}" for index in range(len(rows)))


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _refusal(source: Path, content: object) -> InputError:
    lists = [content, *content.values()] if isinstance(content, dict) else [content]
    rows = any(isinstance(entry, list) and bool(entry) and isinstance(entry[0], list) for entry in lists)
    what = f"keys {', '.join(map(str, list(content)[:12]))}" if isinstance(content, dict) else shorten(content)
    return InputError(
        source,
        "rows of numbers without names: their order cannot be told" if rows else "no motion in this JSON",
        expected=_FORMS,
        found=what,
    )
