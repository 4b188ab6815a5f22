"""Head states in one file: what `partnerface export --what track` and `drive` write, and FLAME parameters over time.

- `track.npz`, or an `.npz` of `drive`: arrays named as the fields of a head state, `fps`, `expression_names`
- `track.csv` of the same; `neutral.csv` beside it holds the avatar's neutral state
- FLAME parameters with an axis of time: `expr`, `rotation`, `neck_pose`, `jaw_pose`, `eyes_pose`, `translation`
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from partnerface_ns.capture.parameters import read_numbers
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.npz_file import npz_shapes, read_npz
from partnerface_ns.driving.fitted_directions import carried_directions
from partnerface_ns.driving.grid import Times
from partnerface_ns.driving.table import Table, decode, read_table
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.neutral import measure_neutral
from partnerface_ns.flame.state import HeadState

FIELDS = {"expression": None, "rotation": 3, "neck": 3, "jaw": 3, "eyes": 6, "translation": 3}
"""Fields of a head state and how many numbers each has; as many expressions as the head model has."""
NEUTRAL_NAME = "neutral.csv"
_SPELLINGS = {
    "expression": ("expression", "expr", "exp"),
    "rotation": ("rotation", "global_pose", "global_orient", "head_pose"),
    "neck": ("neck", "neck_pose"),
    "jaw": ("jaw", "jaw_pose"),
    "eyes": ("eyes", "eyes_pose", "eye_pose"),
    "translation": ("translation", "transl"),
}
_READ = "expr (frames, coefficients), and rotation, neck_pose, jaw_pose, eyes_pose, translation where there are any"
_MAX_BYTES = 4 << 30
_MOST = 1_000_000
"""Frames that a file may have."""
_WIDEST = 2 * math.pi + 0.1
"""Largest entry of a rotation vector, radians."""


@dataclass(frozen=True)
class Track:
    """Head states over time."""

    states: HeadState
    """Batch axes (frames,)."""
    neutral: HeadState
    """What they are when the person does nothing, batch axes ()."""
    times: Times | None
    """Seconds from the first frame; None where the file does not say it."""
    notes: tuple[str, ...]


def read_npz_track(path: Path, model: HeadModel, source_head_model: HeadModel | None = None) -> Track:
    """Head states from an npz, with coefficients of the avatar's head model.

    Args:
        path: the file.
        model: the avatar's head model.
        source_head_model: the head model of the file's coefficients; None takes the avatar's.

    Raises:
        InputError: the file holds no head states, or not of this head model.
    """
    shapes = npz_shapes(path, _MAX_BYTES)
    present = {field: next((key for key in keys if key in shapes), None) for field, keys in _SPELLINGS.items()}
    keys = {field: key for field, key in present.items() if key is not None}
    if "expression" not in keys or len(keys) < 2:
        raise InputError(path, "no head states in this file", expected=_READ, found=", ".join(list(shapes)[:12]))
    for field, key in keys.items():
        if len(shapes[key]) != 2 or not 0 < shapes[key][0] <= _MOST or shapes[key][1] > 1000:
            raise InputError(
                path, "wrong shape", key=key, expected=("frames", FIELDS[field] or "coefficients"), found=shapes[key]
            )
    extra = ("fps", "expression_names", *(f"neutral_{field}" for field in FIELDS))
    arrays = read_npz(path, (*keys.values(), *extra), _MAX_BYTES)
    num = max(shapes[key][0] for key in keys.values())
    values = {field: _array(path, arrays, key, field, num) for field, key in keys.items()}
    names = arrays.get("expression_names")
    names = None if names is None else tuple(str(name) for name in names.ravel().tolist())
    neutral = None
    if all(f"neutral_{field}" in arrays for field in FIELDS):
        neutral = {f: _array(path, {k: v[None] for k, v in arrays.items()}, f"neutral_{f}", f, 1) for f in FIELDS}
    times = None
    if "fps" in arrays:
        fps = read_numbers(arrays, "fps", path)
        if fps.size != 1 or not 0 < fps.item() <= 1000:
            raise InputError(path, "wrong value", key="fps", expected="above 0, at most 1000", found=fps)
        times = np.arange(num) / fps.item()
    missing = [field for field in FIELDS if field not in keys]
    notes = (f"at rest, because the file has none: {', '.join(missing)}",) if missing else ()
    return _track(path, values, neutral, times, names, notes, model, source_head_model)


def is_table_track(table: Table) -> bool:
    """Whether a table holds head states: a column for each number of every field but the expression."""
    return set(_columns()) <= set(table.names)


def read_table_track(table: Table, model: HeadModel, source_head_model: HeadModel | None = None) -> Track:
    """Head states from the table of `track.csv`.

    Raises:
        InputError: not of this head model, or a cell is no number.
    """
    names, values = _states_of_table(table)
    times = None
    if "time" in table.names:
        times = table.numbers(table.names.index("time"))
        if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise InputError(table.source, "times are not in order", key="time", expected="increasing seconds")
    beside = table.source.with_name(NEUTRAL_NAME)
    neutral = None
    if beside.is_file():
        rest = read_table(beside, decode(beside.read_bytes()))
        if is_table_track(rest) and len(rest.rows) == 1:
            others, neutral = _states_of_table(rest)
            neutral = neutral if others == names else None
    return _track(table.source, values, neutral, times, names, (), model, source_head_model)


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
    """Arrays of a file as a track of the avatar's head model."""
    theirs = source_head_model or model
    count = values["expression"].shape[1]
    own = theirs.expression_names
    if count != theirs.num_expr or (names is not None and set(names) != set(own)):
        given = "the head model given" if source_head_model else "the avatar's head model"
        raise InputError(
            path,
            "head states of another head model",
            key="expression",
            expected=f"{theirs.num_expr} coefficients, as {given} ({theirs.name}) has",
            found=f"{count} coefficients" + (f" of other names, {', '.join(names[:4])} ..." if names else ""),
            hint="--source-head-model FILE names the head model that they are of",
        )
    order = list(range(count)) if names is None else [names.index(name) for name in own]
    states = _states(values, order)
    rest = measure_neutral(states, theirs) if neutral is None else _states(neutral, order)[0]
    if names is None:
        notes += (f"the file names no head model: its {count} expressions are read as those of {theirs.name}",)
    if neutral is None:
        notes += ("the neutral face is measured from the frames",)
    if theirs.fingerprint != model.fingerprint:
        carried = carried_directions(theirs, model)
        states, rest = (HeadState(s.expression @ carried, *_others(s)) for s in (states, rest))
        notes += (f"expressions of {theirs.name} are carried over to {model.name}",)
    return Track(states, rest, times, notes)


def _states(values: Mapping[str, np.ndarray], order: list[int]) -> HeadState:
    num = len(values["expression"])
    parts = {f: torch.zeros(num, size or len(order)) for f, size in FIELDS.items()}
    parts |= {field: torch.from_numpy(value.astype(np.float32)) for field, value in values.items()}
    return HeadState(**(parts | {"expression": parts["expression"][:, order]}))


def _others(state: HeadState) -> list[torch.Tensor]:
    return [getattr(state, field.name) for field in fields(HeadState)[1:]]


def _array(path: Path, arrays: Mapping[str, np.ndarray], key: str, field: str, num: int) -> np.ndarray:
    """A field's array, (frames, size); one row holds for all frames."""
    value = read_numbers(arrays, key, path)
    size = FIELDS[field] or value.shape[-1]
    if value.ndim != 2 or value.shape[0] not in (1, num) or value.shape[1] != size:
        raise InputError(path, "wrong shape", key=key, expected=(num, size), found=value.shape)
    _require_radians(path, field, key, value)
    return np.broadcast_to(value, (num, size))


def _require_radians(path: Path, field: str, key: str, value: np.ndarray) -> None:
    if field in ("rotation", "neck", "jaw", "eyes") and np.abs(value).max() > _WIDEST:
        worst = float(value.ravel()[np.abs(value).argmax()])
        raise InputError(path, "a rotation of more than a turn", key=key, expected="radians", found=f"{worst:g}")


def _columns() -> list[str]:
    return [f"{field}_{i}" for field, size in FIELDS.items() for i in range(size or 0)]


def _states_of_table(table: Table) -> tuple[tuple[str, ...], dict[str, Float[np.ndarray, "frames size"]]]:
    """Expression names and arrays by field of a table."""
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
