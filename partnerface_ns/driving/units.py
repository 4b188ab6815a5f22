"""Units of weights and angles. A unit that a file does not name is inferred once for the whole file.

Weights are 0 to 1 or percent; angles are radians or degrees. A unit is inferred only where the numbers allow a single
reading. Otherwise the file is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from partnerface_ns.common.errors import InputError

Curves = Mapping[str, Float[np.ndarray, "rows"]]
Locate = Callable[[str, int], str]
"""Describes, for messages, where a channel's value of a row is in the file."""
Scale = tuple[float, str | None]
"""A factor for values, and a note for the user on the unit."""

UNIT_SCALES = {"deg": math.pi / 180, "percent": 0.01}
"""Factors for units that a column's name states."""
_MAX_WEIGHT, _MIN_PERCENT_PEAK, _MAX_PERCENT = 2.0, 5.0, 110.0
"""The largest weight (solvers overshoot 1), and the smallest and largest peak of a file in percent."""
_STRAY_SHARE, _MIN_WEIGHTS = 0.01, 100
"""Fewer large weights than this share of a file's moving weights are mistakes; it takes this many to decide."""
_LIMITS = {"yaw": math.pi, "pitch": math.pi, "roll": math.pi, "jaw": 1.0, "gaze_yaw": 1.6, "gaze_pitch": 1.6}
"""Largest angle of each joint, radians."""
_GROUPS = (("yaw", "pitch", "roll"), ("jaw",), ("gaze_yaw", "gaze_pitch"))
ANGLES = tuple(_LIMITS)
"""Channels that are angles; all others are weights."""


def infer_weight_scale(source: Path, curves: Curves, locate: Locate) -> Scale:
    """The factor that makes weights 0 to 1.

    Args:
        source: the file, for error messages.
        curves: the file's weights by channel; NaN where there is no value.
        locate: describes where a value is.

    Raises:
        InputError: the unit is ambiguous, or a few weights have another unit than the rest.
    """
    peak, name, row = _furthest(curves)
    if peak <= _MAX_WEIGHT:
        note = f"weights up to {peak:.2f} are not rescaled" if peak > 1.25 else None
        return 1.0, note
    moving = np.concatenate([np.abs(v[np.abs(v) > 1e-6]) for v in curves.values()])
    is_large = moving > _MAX_WEIGHT
    is_mistake = len(moving) >= _MIN_WEIGHTS and is_large.mean() < _STRAY_SHARE
    if not is_mistake and _MIN_PERCENT_PEAK <= peak <= _MAX_PERCENT:
        return 0.01, f"weights up to {peak:.4g} are read as percent"
    rest = f", while {100 * (1 - is_large.mean()):.4g}% of the weights are below 2" if is_mistake else ""
    raise InputError(
        source,
        "the unit of the weights is ambiguous",
        key=locate(name, row),
        expected="0 to 1, or 0 to 100 in the whole file (percent)",
        actual=f"{peak:.4g}{rest}",
    )


def infer_angle_scale(source: Path, curves: Curves, locate: Locate) -> Scale:
    """The factor that makes angles radians.

    Args:
        source: the file, for error messages.
        curves: the file's angles by channel; NaN where there is no value.
        locate: describes where a value is.

    Raises:
        InputError: an angle is beyond what a head can do, and the angles cannot all be degrees.
    """
    too_large = {name: values for name, values in curves.items() if _peak(values) > _LIMITS[name]}
    if not too_large:
        widest = _furthest(curves)[0]
        if widest <= math.pi / 2:
            return 1.0, None
        return 1.0, f"angles up to {widest:.2f} are read as radians ({math.degrees(widest):.0f} degrees)"
    peak, name, row = _furthest(too_large)
    groups = [max((_peak(curves[n]) for n in group if n in curves), default=0.0) for group in _GROUPS]
    if peak > math.pi and all(group == 0 or group >= 1 for group in groups) and peak <= 360:
        return math.pi / 180, f"angles up to {peak:.4g} are read as degrees"
    angle = too_large[name][row]
    raise InputError(
        source,
        "an angle is beyond what a head can do",
        key=locate(name, row),
        expected=f"radians, at most {_LIMITS[name]:.3g}",
        actual=f"{angle:g}",
        hint=f"{angle:g} degrees are {math.radians(angle):.2g} radians",
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
