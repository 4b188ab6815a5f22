"""Tracks: head states over time in one file.

- `track.npz` of `export`, or an `.npz` of `drive`: one array per field of a head state, `fps`, `expression_names`
- `track.csv` of `export`, with the avatar's neutral state in `neutral.csv` beside it
- FLAME parameters over time: `expr`, `rotation`, `neck_pose`, `jaw_pose`, `eyes_pose`, `translation`
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from partnerface_ns.capture.parameters import read_numbers
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.npz_file import npz_shapes, read_npz
from partnerface_ns.driving.expression_fit import expression_map
from partnerface_ns.driving.resampling import Times
from partnerface_ns.driving.table import Table, decode, read_table
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.neutral import measure_neutral
from partnerface_ns.flame.state import HeadState

FIELDS = {"expression": None, "rotation": 3, "neck": 3, "jaw": 3, "eyes": 6, "translation": 3}
"""Fields of a head state and the size of each; None stands for the head model's number of expressions."""
NEUTRAL_NAME = "neutral.csv"
_SPELLINGS = {
    "expression": ("expression", "expr", "exp"),
    "rotation": ("rotation", "global_pose", "global_orient", "head_pose"),
    "neck": ("neck", "neck_pose"),
    "jaw": ("jaw", "jaw_pose"),
    "eyes": ("eyes", "eyes_pose", "eye_pose"),
    "translation": ("translation", "transl"),
}
_SUPPORTED = "expr (frames, coefficients) and any of rotation, neck_pose, jaw_pose, eyes_pose, translation"
_MAX_BYTES = 4 << 30
_MAX_FRAMES = 1_000_000
_MAX_ROTATION = 2 * math.pi + 0.1
"""Largest entry of a rotation vector, radians."""


@dataclass(frozen=True)
class Track:
    """Head states over time."""

    states: HeadState
    """Batch axes (frames,)."""
    neutral: HeadState
    """The person's resting face, batch axes ()."""
    times: Times | None
    """Seconds since the first frame; None if the file does not state them."""
    notes: tuple[str, ...]
    """Messages for the user about how the file was read."""


def read_npz_track(path: Path, model: HeadModel, source_head_model: HeadModel | None = None) -> Track:
    """Read head states from an npz, as coefficients of the avatar's head model.

    Args:
        path: the file.
        model: the avatar's head model.
        source_head_model: the head model of the file's coefficients; None takes the avatar's.

    Raises:
        InputError: the file holds no head states, or they belong to another head model.
    """
    shapes = npz_shapes(path, _MAX_BYTES)
    keys = _keys_by_field(path, shapes)
    extra = ("fps", "expression_names", *(f"neutral_{field}" for field in FIELDS))
    arrays = read_npz(path, (*keys.values(), *extra), _MAX_BYTES)
    num = max(shapes[key][0] for key in keys.values())
    values = {field: _array(path, arrays, key, field, num) for field, key in keys.items()}
    names = arrays.get("expression_names")
    names = None if names is None else tuple(str(name) for name in names.ravel().tolist())
    neutral = None
    if all(f"neutral_{field}" in arrays for field in FIELDS):
        neutral = {f: _array(path, {k: v[None] for k, v in arrays.items()}, f"neutral_{f}", f, 1) for f in FIELDS}
    times = _times_of_rate(path, arrays, num) if "fps" in arrays else None
    missing = [field for field in FIELDS if field not in keys]
    notes = (f"not in the file and left at rest: {', '.join(missing)}",) if missing else ()
    return _track(path, values, neutral, times, names, notes, model, source_head_model)


def _keys_by_field(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """The file's array of each field that it holds.

    Raises:
        InputError: there are no expressions or no other field, or an array has a wrong shape.
    """
    present = {field: next((key for key in keys if key in shapes), None) for field, keys in _SPELLINGS.items()}
    keys = {field: key for field, key in present.items() if key is not None}
    if "expression" not in keys or len(keys) < 2:
        raise InputError(path, "no head states in this file", expected=_SUPPORTED, actual=", ".join(list(shapes)[:12]))
    for field, key in keys.items():
        if len(shapes[key]) != 2 or not 0 < shapes[key][0] <= _MAX_FRAMES or shapes[key][1] > 1000:
            raise InputError(
                path, "wrong shape", key=key, expected=("frames", FIELDS[field] or "coefficients"), actual=shapes[key]
            )
    return keys


def _times_of_rate(path: Path, arrays: Mapping[str, np.ndarray], num: int) -> Times:
    fps = read_numbers(arrays, "fps", path)
    if fps.size != 1 or not 0 < fps.item() <= 1000:
        raise InputError(path, "wrong value", key="fps", expected="above 0, at most 1000", actual=fps)
    return np.arange(num) / fps.item()


def is_table_track(table: Table) -> bool:
    """Whether a table holds head states: a column for each component of every field except the expression."""
    return set(_columns()) <= set(table.names)


def read_table_track(table: Table, model: HeadModel, source_head_model: HeadModel | None = None) -> Track:
    """Read the head states of a table for which `is_table_track` holds.

    Args:
        table: the table of `track.csv`.
        model: the avatar's head model.
        source_head_model: the head model of the table's coefficients; None takes the avatar's.

    Raises:
        InputError: the head states belong to another head model, or a cell is not a number.
    """
    names, values = _states_of_table(table)
    times = None
    if "time" in table.names:
        times = table.numbers(table.names.index("time"))
        if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise InputError(table.source, "times are not in order", key="time", expected="increasing seconds")
    neutral = _neutral_beside(table.source, names)
    return _track(table.source, values, neutral, times, names, (), model, source_head_model)


def _neutral_beside(path: Path, names: tuple[str, ...]) -> dict[str, Float[np.ndarray, "1 size"]] | None:
    """The arrays of `neutral.csv` beside a table; None if there is none with these expression names."""
    neutral_path = path.with_name(NEUTRAL_NAME)
    if not neutral_path.is_file():
        return None
    table = read_table(neutral_path, decode(neutral_path.read_bytes()))
    if not is_table_track(table) or len(table.rows) != 1:
        return None
    neutral_names, neutral = _states_of_table(table)
    return neutral if neutral_names == names else None


def _track(
    path: Path,
    values: Mapping[str, np.ndarray],
    neutral: Mapping[str, np.ndarray] | None,
    times: Times | None,
    names: tuple[str, ...] | None,
    notes: tuple[str, ...],
    model: HeadModel,
    source_head_model: HeadModel | None,
) -> Track:
    """The track of a file's arrays.

    Args:
        path: the file.
        values: (frames, size) by field.
        neutral: (1, size) by field, if the file holds a neutral state.
        times: seconds of the frames, if the file states them.
        names: names of the expressions, if the file states them.
        notes: messages so far.
        model: the avatar's head model.
        source_head_model: the head model of the file's coefficients; None takes the avatar's.
    """
    source_model = source_head_model or model
    count = values["expression"].shape[1]
    _check_expressions(path, count, names, source_model, "given" if source_head_model else "avatar's")
    order = list(range(count)) if names is None else [names.index(name) for name in source_model.expression_names]
    states = _states(values, order)
    rest = measure_neutral(states, source_model) if neutral is None else _states(neutral, order)[0]
    if names is None:
        notes += (f"the file names no head model: its {count} expressions are read as those of {source_model.name}",)
    if neutral is None:
        notes += ("the neutral face is measured from the frames",)
    if source_model.fingerprint != model.fingerprint:
        mapping = expression_map(source_model, model)
        states, rest = (replace(s, expression=s.expression @ mapping) for s in (states, rest))
        notes += (f"expressions of {source_model.name} are mapped to {model.name}",)
    return Track(states, rest, times, notes)


def _check_expressions(path: Path, count: int, names: tuple[str, ...] | None, model: HeadModel, whose: str) -> None:
    """Check that the expressions of a file are those of a head model.

    Raises:
        InputError: their number or names differ.
    """
    if count != model.num_expr or (names is not None and set(names) != set(model.expression_names)):
        raise InputError(
            path,
            "the head states belong to another head model",
            key="expression",
            expected=f"{model.num_expr} coefficients, as the {whose} head model ({model.name}) has",
            actual=f"{count} coefficients" + (f" with other names, {', '.join(names[:4])} ..." if names else ""),
            hint="give their head model with --source-head-model FILE",
        )


def _states(values: Mapping[str, np.ndarray], order: list[int]) -> HeadState:
    """Head states of arrays by field, with the expressions in this order; missing fields are at rest."""
    num = len(values["expression"])
    parts = {f: torch.zeros(num, size or len(order)) for f, size in FIELDS.items()}
    parts |= {field: torch.from_numpy(value.astype(np.float32)) for field, value in values.items()}
    return HeadState(**(parts | {"expression": parts["expression"][:, order]}))


def _array(path: Path, arrays: Mapping[str, np.ndarray], key: str, field: str, num: int) -> np.ndarray:
    """A field's array, (frames, size). A single row is repeated for all frames."""
    value = read_numbers(arrays, key, path)
    size = FIELDS[field] or value.shape[-1]
    if value.ndim != 2 or value.shape[0] not in (1, num) or value.shape[1] != size:
        raise InputError(path, "wrong shape", key=key, expected=(num, size), actual=value.shape)
    _require_radians(path, field, key, value)
    return np.broadcast_to(value, (num, size))


def _require_radians(path: Path, field: str, key: str, value: np.ndarray) -> None:
    if field in ("rotation", "neck", "jaw", "eyes") and np.abs(value).max() > _MAX_ROTATION:
        worst = float(value.ravel()[np.abs(value).argmax()])
        raise InputError(path, "a rotation exceeds a full turn", key=key, expected="radians", actual=f"{worst:g}")


def _columns() -> list[str]:
    return [f"{field}_{i}" for field, size in FIELDS.items() for i in range(size or 0)]


def _states_of_table(table: Table) -> tuple[tuple[str, ...], dict[str, Float[np.ndarray, "frames size"]]]:
    """A table's expression names, and its arrays by field."""
    known = set(_columns())
    names = tuple(name for name in table.names if name and name not in known and name != "time")
    column = {name: index for index, name in enumerate(table.names)}
    values = {
        field: np.stack([table.numbers(column[f"{field}_{i}"]) for i in range(size)], 1)
        for field, size in FIELDS.items()
        if size
    }
    values["expression"] = np.stack([table.numbers(column[n]) for n in names] or [np.zeros(len(table.rows))], 1)
    for field, value in values.items():
        row = np.flatnonzero(~np.isfinite(value).all(1))
        if len(row):
            raise InputError(table.source, "a value is missing", key=table.places[row[0]], expected="numbers")
        _require_radians(table.source, field, field, value)
    return names, values
