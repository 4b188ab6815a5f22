"""Keyframes of named channels (listed in `rig.py`) and their interpolation.

JSON: `{"keyframes": [{"time": 0.0, "mouthSmile": 0.0}, {"time": 1.2, "mouthSmile": 0.8, "jaw": 0.1}]}`.
Tables: a column `time` and one column per channel; an empty cell is no key. Times are seconds from 0, in order. Between
the keys of a channel the curve is smooth and monotone, so it stays in their range. Before the first key and after the
last it is constant. A channel without keys is 0.
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
from partnerface_ns.driving.blendshape_names import channel_names, find_channel, normalize
from partnerface_ns.driving.clock import read_clock
from partnerface_ns.driving.recording import MANY_BLENDSHAPES, channel_columns
from partnerface_ns.driving.resampling import Channels
from partnerface_ns.driving.rig import arkit_names
from partnerface_ns.driving.table import Table
from partnerface_ns.driving.units import ANGLES, UNIT_SCALES, Curves, infer_angle_scale, infer_weight_scale

Keys = Sequence[tuple[float, float]]
"""Keys of a channel: seconds and values."""
_MAX_SECONDS = 3600.0
_FAR_APART = 60.0
"""Distance of keys in seconds above which a note asks whether the times are milliseconds."""
_TIME = "time"
_TIME_SCALES = {None: 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Seconds per unit of a time column."""


@dataclass(frozen=True)
class Keyframes:
    """The keys of all channels of a file."""

    source: Path
    times: tuple[float, ...]
    """Seconds."""
    keys: Mapping[str, tuple[float, ...]]
    """The values at all times by channel, NaN where there is no key; in the units of the file."""
    places: tuple[str, ...]
    """Where each time is in the file."""
    names: Mapping[str, str]
    """The file's spelling of each channel."""


def read_keyframes(keyframes: Keyframes, fps: float) -> tuple[Channels, tuple[str, ...]]:
    """Interpolate keyframes.

    Args:
        keyframes: the keys of a file.
        fps: frames per second.

    Returns:
        The curves, and messages for the user about how the keys were read.

    Raises:
        InputError: times are not in order, there is no channel, or a unit is ambiguous.
    """
    source, times = keyframes.source, keyframes.times
    _check_times(keyframes)
    if not keyframes.keys:
        raise InputError(source, "there are no keyframes", expected="times and at least one channel", actual=len(times))
    curves, notes = _convert_units(keyframes)
    keys_by_channel = {
        name: [(t, v) for t, v in zip(times, values.tolist(), strict=True) if np.isfinite(v)]
        for name, values in curves.items()
    }
    num = math.floor(times[-1] * fps + 1e-6) + 1
    apart = max(np.diff([0.0, *times]))
    length = f"{len(times)} keyframes over {times[-1]:.2f} s: {num} frames at {fps:.4g} fps"
    if apart > _FAR_APART:
        length += f"; keys are up to {apart:g} s apart, name the column time_ms if they are milliseconds"
    curves = interpolate({name: keys for name, keys in keys_by_channel.items() if keys}, num, fps)
    return curves, (length, *notes)


def _check_times(keyframes: Keyframes) -> None:
    times = keyframes.times
    for index, (before, after) in enumerate(zip([-1e-9, *times], times, strict=False)):
        if not before < after <= _MAX_SECONDS:
            raise InputError(
                keyframes.source,
                "times are not in order",
                key=keyframes.places[index],
                expected=f"seconds after the previous time, from 0 to {_MAX_SECONDS:g}",
                actual=after,
                hint="name the column time_ms if it counts milliseconds" if after > _MAX_SECONDS else None,
            )


def is_keyframes(table: Table) -> bool:
    """Whether a table has a column `time` but fewer blendshapes than a recording."""
    return _time_column(table.names) is not None and len(channel_columns(table.names)) < MANY_BLENDSHAPES


def keyframes_of_table(table: Table, own: Sequence[str]) -> Keyframes:
    """The keyframes in a table for which `is_keyframes` holds.

    Args:
        table: the table.
        own: names of the head model's expressions, which take precedence over ARKit's.

    Raises:
        InputError: a cell is not a number, a row is too short, or a column occurs twice.
    """
    column = _time_column(table.names)
    assert column is not None
    if table.short:
        place, count = table.places[table.short[0]], len(table.names)
        raise InputError(table.source, "a row has another length", key=place, expected=f"{count} cells", actual="fewer")
    times = _times(table, column)
    missing = np.flatnonzero(~np.isfinite(times))
    if len(missing):
        raise InputError(table.source, "a keyframe has no time", key=table.places[missing[0]], expected="seconds")
    names, keys = {}, {}
    for index, name in enumerate(table.names):
        if index == column or not name:
            continue
        channel = _channel(name, own)
        if channel in names:
            both = f"columns {names[channel]} and {name}"
            raise InputError(table.source, "a column occurs twice", key=name, expected="one", actual=both)
        names[channel], keys[channel] = name, tuple(table.numbers(index).tolist())
    return Keyframes(table.source, tuple(times.tolist()), keys, table.places, names)


def keyframes_of_record(record: JsonObject, own: Sequence[str]) -> Keyframes:
    """The keyframes in a JSON object with the key `keyframes`.

    Args:
        record: the object.
        own: names of the head model's expressions, which take precedence over ARKit's.

    Raises:
        InputError: a value is not a number, or a time is missing.
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


def interpolate(keys: Mapping[str, Keys], num: int, fps: float) -> Channels:
    """Curves through the keys of each channel, at `num` frames."""
    time = np.arange(num) / fps
    return {name: _curve(points, time) for name, points in keys.items()}


def _curve(points: Keys, time: Float[np.ndarray, "timesteps"]) -> Float[np.ndarray, "timesteps"]:
    seconds, values = np.array(points, dtype=float).T
    # Repeating the first and the last key gives the curve zero slope there.
    seconds = np.concatenate([[seconds[0] - 1], seconds, [seconds[-1] + 1]])
    curve = PchipInterpolator(seconds, np.pad(values, 1, mode="edge"))
    return np.clip(curve(np.clip(time, seconds[0], seconds[-1])), values.min(), values.max())


def _time_column(names: Sequence[str]) -> int | None:
    for index, name in enumerate(names):
        key, unit = normalize(name)
        if unit in _TIME_SCALES and (key in (_TIME, "t") or (not key and unit)):
            return index
    return None


def _times(table: Table, column: int) -> Float[np.ndarray, "rows"]:
    """Seconds of every row. Timecodes count from the first one."""
    if any(":" in cell for cell in table.cells(column)):
        clock = read_clock(table.names[column], table.cells(column), sparse=True)
        if clock is not None and not clock.counts_frames:
            return clock.times - np.nanmin(clock.times)
    return table.numbers(column) * _TIME_SCALES[normalize(table.names[column]).unit]


def _channel(name: str, own: Sequence[str]) -> str:
    """The channel of a name, or the name itself if it is one of the head model's own, or unknown."""
    return name if name in own else find_channel(name, channel_names(arkit_names())) or name


def _convert_units(keyframes: Keyframes) -> tuple[Curves, list[str]]:
    """Weights from 0 to 1 and angles in radians, and notes on inferred units."""
    curves = {name: np.array(values) for name, values in keyframes.keys.items()}
    for name, values in curves.items():
        too_large = np.flatnonzero(np.abs(values) > MAX_NUMBER)
        if len(too_large):
            key = f"{keyframes.places[too_large[0]]}, {keyframes.names[name]}"
            raise InputError(keyframes.source, "wrong value", key=key, expected="a number", actual=values[too_large[0]])
    units = {name: normalize(keyframes.names[name]).unit for name in curves}
    curves = {name: values * UNIT_SCALES.get(units[name] or "", 1.0) for name, values in curves.items()}
    locate = lambda name, row: f"{keyframes.places[row]}, {keyframes.names[name]}"  # noqa: E731
    arkit = set(channel_names(arkit_names()).values())
    weights = {n: v for n, v in curves.items() if n in arkit and n not in ANGLES and units[n] is None}
    angles = {n: v for n, v in curves.items() if n in ANGLES and units[n] is None}
    notes = []
    for group, infer in ((weights, infer_weight_scale), (angles, infer_angle_scale)):
        scale, note = infer(keyframes.source, group, locate)
        curves |= {name: values * scale for name, values in group.items()}
        notes += [note] if note else []
    return curves, notes
