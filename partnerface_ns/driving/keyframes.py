"""Keyframes of named channels (`rig.py` lists them), smoothly interpolated.

JSON: `{"keyframes": [{"time": 0.0, "mouthSmile": 0.0}, {"time": 1.2, "mouthSmile": 0.8, "jaw": 0.1}]}`.
Tables: a column `time` and one a channel; an empty cell is no key. Times are seconds from 0, in order. Between the keys
of a channel the curve is smooth and never leaves their range; before the first and after the last it stays. A channel
without keys is 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from partnerface_ns.capture.json_object import MAX_NUMBER, JsonObject
from partnerface_ns.common.errors import InputError
from partnerface_ns.driving.blendshape_names import channel_names, find, spelled
from partnerface_ns.driving.clock import read_clock
from partnerface_ns.driving.grid import Channels
from partnerface_ns.driving.recording import HALF, channel_columns
from partnerface_ns.driving.rig import arkit_names
from partnerface_ns.driving.table import Table
from partnerface_ns.driving.units import ANGLES, Curves, angle_scale, weight_scale

Keys = Sequence[tuple[float, float]]
_MAX_SECONDS = 3600.0
_FAR = 60.0
"""Seconds between keys from which a note asks whether they are milliseconds."""
_TIME, _SCALES = "time", {None: 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True)
class Keyframes:
    """Keys of all channels, as they stand in a file."""

    source: Path
    times: tuple[float, ...]
    """Seconds."""
    keys: Mapping[str, tuple[float, ...]]
    """A value for every time by channel, NaN where there is no key; in the units of the file."""
    places: tuple[str, ...]
    """Where each time stands in the file."""
    names: Mapping[str, str]
    """Each channel as the file spells it."""


def read_keyframes(keyframes: Keyframes, fps: float) -> tuple[Channels, tuple[str, ...]]:
    """The curves of keyframes at `fps` moments a second, and what a user should know about the reading.

    Args:
        keyframes: as they stand in a file.
        fps: moments a second.

    Raises:
        InputError: times are not in order, there is no channel, or a unit cannot be told.
    """
    source, times = keyframes.source, keyframes.times
    for index, (before, after) in enumerate(zip([-1e-9, *times], times, strict=False)):
        if not before < after <= _MAX_SECONDS:
            expected = f"seconds after the one before, from 0 to {_MAX_SECONDS:g}"
            hint = "name the column time_ms if it counts milliseconds" if after > _MAX_SECONDS else None
            place = keyframes.places[index]
            raise InputError(source, "times are not in order", key=place, expected=expected, found=after, hint=hint)
    if not keyframes.keys:
        raise InputError(source, "there are no keyframes", expected="times and at least one channel", found=len(times))
    curves, notes = _in_our_units(keyframes)
    known = {
        name: [(t, v) for t, v in zip(times, values.tolist(), strict=True) if np.isfinite(v)]
        for name, values in curves.items()
    }
    num = math.floor(times[-1] * fps + 1e-6) + 1
    apart = max(np.diff([0.0, *times]))
    length = f"{len(times)} keyframes, the motion lasts {times[-1]:.2f} s: {num} moments at {fps:.4g} a second"
    if apart > _FAR:
        length += f"; keys are up to {apart:g} s apart, name the column time_ms if they are milliseconds"
    return interpolated({name: keys for name, keys in known.items() if keys}, num, fps), (length, *notes)


def is_keyframes(table: Table) -> bool:
    """Whether a table has a column `time`, and is no recording of most blendshapes."""
    return _time_column(table.names) is not None and len(channel_columns(table.names)) < HALF


def keyframes_of_table(table: Table, own: Sequence[str]) -> Keyframes:
    """The keyframes in a table with a column `time`.

    Args:
        table: with `is_keyframes`.
        own: names of the head model's own expressions, which come before ARKit's.

    Raises:
        InputError: a cell is no number, a row is too short, or a column stands twice.
    """
    column = _time_column(table.names)
    assert column is not None
    if table.short:
        place, count = table.places[table.short[0]], len(table.names)
        raise InputError(table.source, "a row of another length", key=place, expected=f"{count} cells", found="fewer")
    times = _times(table, column)
    missing = np.flatnonzero(~np.isfinite(times))
    if len(missing):
        raise InputError(table.source, "a keyframe without a time", key=table.places[missing[0]], expected="seconds")
    names, keys = {}, {}
    for index, name in enumerate(table.names):
        if index == column or not name:
            continue
        channel = _channel(name, own)
        if channel in names:
            found = f"columns {names[channel]} and {name}"
            raise InputError(table.source, "a column stands twice", key=name, expected="one", found=found)
        names[channel], keys[channel] = name, tuple(table.numbers(index).tolist())
    return Keyframes(table.source, tuple(times.tolist()), keys, table.places, names)


def keyframes_of_record(record: JsonObject, own: Sequence[str]) -> Keyframes:
    """The keyframes in a JSON object with the key `keyframes`.

    Args:
        record: the object.
        own: names of the head model's own expressions, which come before ARKit's.

    Raises:
        InputError: a value is no number, or a time is missing; names it.
    """
    records = record.children("keyframes")
    times = tuple(entry.number(_TIME) for entry in records)
    names = dict.fromkeys(name for entry in records for name in entry.values if name != _TIME)
    keys = {
        _channel(name, own): tuple(entry.number(name) if name in entry.values else math.nan for entry in records)
        for name in names
    }
    places = tuple(f"keyframe {index}" for index in range(len(records)))
    return Keyframes(record.source, times, keys, places, {_channel(name, own): name for name in names})


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


def _time_column(names: Sequence[str]) -> int | None:
    for index, name in enumerate(names):
        key, unit = spelled(name)
        if unit in _SCALES and (key in (_TIME, "t") or (not key and unit)):
            return index
    return None


def _times(table: Table, column: int) -> Float[np.ndarray, "rows"]:
    """Seconds of every row: as they are where they are numbers, from the first where they are timecodes."""
    if any(":" in cell for cell in table.cells(column)):
        clock = read_clock(table.names[column], table.cells(column), sparse=True)
        if clock is not None and not clock.counts_frames:
            return clock.times - np.nanmin(clock.times)
    return table.numbers(column) * _SCALES[spelled(table.names[column]).unit]


def _channel(name: str, own: Sequence[str]) -> str:
    """The channel of a name, or the name itself where it is the head model's own, or unknown."""
    return name if name in own else find(name, channel_names(arkit_names())) or name


def _in_our_units(keyframes: Keyframes) -> tuple[Curves, list[str]]:
    """Weights from 0 to 1 and angles in radians, and what was inferred."""
    curves = {name: np.array(values) for name, values in keyframes.keys.items()}
    for name, values in curves.items():
        too_large = np.flatnonzero(np.abs(values) > MAX_NUMBER)
        if len(too_large):
            key = f"{keyframes.places[too_large[0]]}, {keyframes.names[name]}"
            raise InputError(keyframes.source, "wrong value", key=key, expected="a number", found=values[too_large[0]])
    units = {name: spelled(keyframes.names[name]).unit for name in curves}
    declared = {"deg": np.pi / 180, "percent": 0.01}
    curves = {name: values * declared.get(units[name] or "", 1.0) for name, values in curves.items()}
    where = lambda name, row: f"{keyframes.places[row]}, {keyframes.names[name]}"  # noqa: E731
    arkit = set(channel_names(arkit_names()).values())
    weights = {n: v for n, v in curves.items() if n in arkit and n not in ANGLES and units[n] is None}
    angles = {n: v for n, v in curves.items() if n in ANGLES and units[n] is None}
    notes = []
    for group, infer in ((weights, weight_scale), (angles, angle_scale)):
        scale, note = infer(keyframes.source, group, where)
        curves |= {name: values * scale for name, values in group.items()}
        notes += [note] if note else []
    return curves, notes
