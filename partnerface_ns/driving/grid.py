"""Samples at times of their own, taken over to moments at a constant rate.

Moment k is at k / fps seconds after the first sample. Curves are interpolated; what cannot be interpolated (an image,
a tracked head) is held until the next one begins. So a moment is never further from its sample than half a frame.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from partnerface_ns.common.errors import InputError

Channels = dict[str, Float[np.ndarray, "timesteps"]]
Times = Float[np.ndarray, "samples"]
_RATES = (
    10, 12, 15, 20, 24000 / 1001, 24, 25, 30000 / 1001, 30, 48, 50, 60000 / 1001, 60, 72, 75, 90, 100, 120, 240
)  # fmt: skip
_NEAR = 0.02
"""A measured rate this near to a usual one, as a share of it, is that one."""
MAX_MOMENTS = 1_000_000


def rate_of(times: Times) -> float | None:
    """Samples a second of increasing times: the usual rate nearest to the median step; None for a single sample."""
    steps = np.diff(times)
    if not len(steps):
        return None
    median = float(np.median(steps))
    counted = np.round(steps / median).clip(min=1)  # steps over samples that are missing count as several
    regular = counted <= 2
    measured = float(counted[regular].sum() / steps[regular].sum())
    nearest = min(_RATES, key=lambda rate: abs(rate - measured))
    return float(nearest) if abs(nearest - measured) <= _NEAR * nearest else measured


def moments(seconds: float, fps: float) -> Float[np.ndarray, "timesteps"]:
    """The times of all moments from 0 to `seconds`, the last one nearest to it.

    Raises:
        InputError: there would be too many.
    """
    count = round(seconds * fps) + 1
    if count > MAX_MOMENTS:
        raise InputError("motion", "lasts too long", expected=f"at most {MAX_MOMENTS} moments", found=count)
    return np.arange(count) / fps


def sampled(times: Times, curves: Mapping[str, Float[np.ndarray, "samples"]], fps: float) -> Channels:
    """Curves at every moment, linear between their values; NaN is no value, and the ends are held."""
    at = moments(float(times[-1] - times[0]), fps)
    filled = {}
    for name, values in curves.items():
        known = np.isfinite(values)
        filled[name] = np.interp(at, times[known] - times[0], values[known]) if known.any() else np.zeros(len(at))
    return filled


def held(times: Times, fps: float) -> Int[np.ndarray, "timesteps"]:
    """For every moment the index of the sample that is shown then."""
    at = moments(float(times[-1] - times[0]), fps)
    return np.searchsorted(times - times[0], at + 0.5 / fps, side="left").clip(min=1) - 1
