"""Units of weights and angles that a file does not name, by one decision for the file.

Weights are 0 to 1 or percent; angles are radians or degrees. A unit is inferred where the numbers leave no other
reading. Where they do, the file is refused, and the refusal names the forms that are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from partnerface_ns.common.errors import InputError

Curves = Mapping[str, Float[np.ndarray, "rows"]]
Where = Callable[[str, int], str]
"""The place of a channel's value in the file, by channel and row, for messages."""
Scale = tuple[float, str | None]
"""What values are multiplied by, and the line that says so."""

_AS_THEY_ARE, _PERCENT_FROM, _PERCENT_TO = 2.0, 5.0, 110.0
"""Largest weights that solvers overshoot to; smallest and largest peak of a file in percent."""
_STRAY, _MANY = 0.01, 100
"""Share of a file's moving weights below which those beyond are mistakes, and how many it takes to tell."""
_LIMITS = {"yaw": math.pi, "pitch": math.pi, "roll": math.pi, "jaw": 1.0, "gaze_yaw": 1.6, "gaze_pitch": 1.6}
"""Radians that no head, jaw or eye passes."""
_GROUPS = (("yaw", "pitch", "roll"), ("jaw",), ("gaze_yaw", "gaze_pitch"))
ANGLES = tuple(_LIMITS)
"""Channels that are angles; all others are weights."""


def weight_scale(source: Path, curves: Curves, where: Where) -> Scale:
    """The factor that makes weights 0 to 1.

    Args:
        source: the file, for the error.
        curves: the file's weights by channel; NaN where there is no value.
        where: places of values.

    Raises:
        InputError: the unit cannot be told, or a few weights are of another unit than the others.
    """
    peak, name, row = _furthest(curves)
    if peak <= _AS_THEY_ARE:
        note = f"weights up to {peak:.2f} are taken as they are" if peak > 1.25 else None
        return 1.0, note
    moving = np.concatenate([np.abs(v[np.abs(v) > 1e-6]) for v in curves.values()])
    beyond = moving > _AS_THEY_ARE
    mistake = len(moving) >= _MANY and beyond.mean() < _STRAY
    if not mistake and _PERCENT_FROM <= peak <= _PERCENT_TO:
        return 0.01, f"weights up to {peak:.4g} are read as percent"
    found = f"{peak:.4g}" + (f", where {100 * (1 - beyond.mean()):.4g}% of the weights are below 2" if mistake else "")
    raise InputError(
        source,
        "the unit of the weights cannot be told",
        key=where(name, row),
        expected="0 to 1, or 0 to 100 in the whole file (percent)",
        found=found,
    )


def angle_scale(source: Path, curves: Curves, where: Where) -> Scale:
    """The factor that makes angles radians.

    Args:
        source: the file, for the error.
        curves: the file's angles by channel; NaN where there is no value.
        where: places of values.

    Raises:
        InputError: an angle is beyond what a head can do, and not all can be degrees.
    """
    past = {name: values for name, values in curves.items() if _peak(values) > _LIMITS[name]}
    if not past:
        widest = _furthest(curves)[0]
        if widest <= math.pi / 2:
            return 1.0, None
        return 1.0, f"angles up to {widest:.2f} are read as radians ({math.degrees(widest):.0f} degrees)"
    peak, name, row = _furthest(past)
    groups = [max((_peak(curves[n]) for n in group if n in curves), default=0.0) for group in _GROUPS]
    if peak > math.pi and all(group == 0 or group >= 1 for group in groups) and peak <= 360:
        return math.pi / 180, f"angles up to {peak:.4g} are read as degrees"
    raise InputError(
        source,
        "an angle beyond what a head can do",
        key=where(name, row),
        expected=f"radians, at most {_LIMITS[name]:.3g}",
        found=f"{past[name][row]:g}",
        hint=f"{past[name][row]:g} degrees are {math.radians(past[name][row]):.2g} radians",
    )


def _peak(values: Float[np.ndarray, "rows"]) -> float:
    return float(np.nanmax(np.abs(values), initial=0.0))


def _furthest(curves: Curves) -> tuple[float, str, int]:
    """The largest absolute value, its channel and its row; 0 where there is no value."""
    best = (0.0, "", 0)
    for name, values in curves.items():
        peak = _peak(values)
        if peak > best[0]:
            best = (peak, name, int(np.nanargmax(np.abs(values))))
    return best
