"""Recordings of blendshapes in JSON: a list of frames, names with rows, or columns. Each is read as a table.

- `[{"eyeBlinkLeft": 0.1, ...}, ...]`, or the same under a key such as `frames`
- frames with a time and nested weights: `{"timestamp": 0.03, "blendShapes": {"eyeBlinkLeft": 0.1}}`
- frames with a list of categories: `[{"categoryName": "eyeBlinkLeft", "score": 0.1}, ...]`
- `{"names": ["eyeBlinkLeft", ...], "rows": [[0.1, ...], ...]}`, with any two keys
- `{"eyeBlinkLeft": [0.1, ...], ...}`

The object may state a rate: `fps`, `frameRate`, `exportFps`. JSON Lines are read as a list of frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.driving.blendshape_names import channel_names, find_channel, normalize
from partnerface_ns.driving.clock import clock_columns
from partnerface_ns.driving.rig import arkit_names
from partnerface_ns.driving.table import Table

_SUPPORTED = (
    "keyframes, a list of frames with named blendshapes, names and rows, or a list of numbers for each name "
    "(docs/driving.md)"
)
_RATE_KEYS = ("fps", "framerate", "exportfps", "framespersecond", "rate")
_LABEL_KEYS, _SCORE_KEYS = (
    ("categoryName", "category_name", "displayName", "name", "shape"),
    ("score", "value", "weight"),
)
_MAX_DEPTH = 6
"""Levels of nesting that are searched."""


def parse_json(source: Path, text: str) -> Any:
    """Parse JSON, or JSON Lines as a list; NaN becomes None.

    Raises:
        InputError: the text is neither.
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
        raise InputError(source, "not a readable JSON file", actual=shorten(error)) from error


def table_of_json(source: Path, content: object, depth: int = 0) -> tuple[Table, float | None]:
    """The table in JSON, and the rate that the file states.

    Args:
        source: the file.
        content: its parsed content, or an object in it.
        depth: number of objects around `content`.

    Raises:
        InputError: the content has none of the supported forms.
    """
    if isinstance(content, list):
        return _table_of_frames(source, content, ()), None
    if not isinstance(content, dict):
        raise _unsupported_error(source, content)
    rate = _rate(source, content)
    lists = {name: value for name, value in content.items() if isinstance(value, list) and value}
    names = next((value for value in lists.values() if _are_names(value)), ())
    for value in lists.values():
        if value is names:
            continue
        if names and all(isinstance(row, list) for row in value):
            return _table_of_rows(source, names, value, _clock_lists(lists, len(value))), rate
        if any(isinstance(row, dict) for row in value):
            return _table_of_frames(source, value, names), rate
    columns = {name: value for name, value in lists.items() if _is_known(name) or clock_columns([name])}
    if any(_is_known(name) for name in columns):
        return _table_of_columns(source, columns), rate
    for value in content.values():
        if isinstance(value, dict) and depth < _MAX_DEPTH and any(isinstance(v, (dict, list)) for v in value.values()):
            table, nested_rate = table_of_json(source, value, depth + 1)
            return table, rate or nested_rate
    raise _unsupported_error(source, content)


# -- forms -------------------------------------------------------------------------------------------------------


def _table_of_frames(source: Path, frames: Sequence[object], names: Sequence[str]) -> Table:
    """The table of frames, which are objects with values by name at some depth.

    Args:
        source: the file.
        frames: the objects.
        names: names for lists of as many numbers inside a frame.
    """
    if not frames or not all(frame is None or isinstance(frame, dict) for frame in frames):
        raise _unsupported_error(source, frames)
    rows: list[dict[str, str]] = []
    repeated: dict[str, None] = {}
    for frame in frames:
        row: dict[str, str] = {}
        for name, value in _values(frame, names, 0):
            if name in row:
                repeated[name] = None
            row.setdefault(name, value)
        rows.append(row)
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    if not any(_is_known(name) for name in columns):
        raise _unsupported_error(source, frames)
    listed = ", ".join(list(repeated)[:3])
    notes = (f"frames contain {listed} more than once: the first value is used",) if repeated else ()
    cells = tuple(tuple(row.get(name, "") for name in columns) for row in rows)
    return Table(source, columns, cells, _places(rows), notes=notes)


def _table_of_rows(source: Path, names: Sequence[str], rows: Sequence[list], clocks: Mapping[str, list]) -> Table:
    for index, row in enumerate(rows):
        if len(row) != len(names):
            raise InputError(
                source,
                "a row has another length",
                key=f"row {index}",
                expected=f"{len(names)} numbers",
                actual=len(row),
            )
    cells = tuple(
        tuple(_cell(value) for value in (*row, *(column[i] for column in clocks.values())))
        for i, row in enumerate(rows)
    )
    return Table(source, (*names, *clocks), cells, _places(rows))


def _table_of_columns(source: Path, columns: Mapping[str, list]) -> Table:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shortest = min(lengths, key=lengths.__getitem__)
        raise InputError(
            source, "the lists differ in length", key=shortest, expected=max(lengths.values()), actual=lengths[shortest]
        )
    rows = list(zip(*columns.values(), strict=True))
    return Table(source, tuple(columns), tuple(tuple(_cell(v) for v in row) for row in rows), _places(rows))


def _values(value: object, names: Sequence[str], depth: int) -> Iterator[tuple[str, str]]:
    """Names and cells inside a frame."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        if names and len(value) == len(names) and not any(isinstance(entry, (dict, list)) for entry in value):
            yield from zip(names, map(_cell, value), strict=True)
        for entry in value:
            if isinstance(entry, (dict, list)):
                yield from _values(entry, names, depth + 1)
    elif isinstance(value, dict):
        label = next((value[key] for key in _LABEL_KEYS if isinstance(value.get(key), str)), None)
        score = next((key for key in _SCORE_KEYS if key in value), None)
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
    """The rate that an object, or an object directly inside it, states."""
    for name, value in content.items():
        if normalize(name).key in _RATE_KEYS and value is not None:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1000:
                expected = "frames per second, above 0, at most 1000"
                raise InputError(source, "wrong value", key=name, expected=expected, actual=shorten(value))
            return float(value)
    nested = (value for value in content.values() if isinstance(value, dict)) if depth == 0 else ()
    return next((rate for value in nested if (rate := _rate(source, value, 1))), None)


def _clock_lists(lists: Mapping[str, list], count: int) -> dict[str, list]:
    """The lists of `count` entries that hold a clock."""
    return {name: value for name, value in lists.items() if len(value) == count and clock_columns([name])}


def _are_names(value: Sequence[object]) -> bool:
    return all(isinstance(entry, str) for entry in value) and any(_is_known(str(entry)) for entry in value)


def _is_known(name: str) -> bool:
    return find_channel(name, channel_names(arkit_names())) is not None


def _places(rows: Sequence[object]) -> tuple[str, ...]:
    return tuple(f"frame {index}" for index in range(len(rows)))


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _unsupported_error(source: Path, content: object) -> InputError:
    lists = [content, *content.values()] if isinstance(content, dict) else [content]
    has_rows = any(isinstance(entry, list) and bool(entry) and isinstance(entry[0], list) for entry in lists)
    summary = f"keys {', '.join(map(str, list(content)[:12]))}" if isinstance(content, dict) else shorten(content)
    return InputError(
        source,
        "rows of numbers without names: their meaning is unknown" if has_rows else "no motion in this JSON",
        expected=_SUPPORTED,
        actual=summary,
    )
