"""Resampling of sources with their own sample times to a constant frame rate.

Frame k is at k / fps seconds after the first sample. Curves are interpolated linearly. Images and tracked heads cannot
be interpolated: each is held until the next sample begins, so a frame is at most half a frame from its sample.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from partnerface_ns.common.errors import InputError

Channels = dict[str, Float[np.ndarray, "timesteps"]]
"""Curves by channel name, all of one length."""
Times = Float[np.ndarray, "samples"]
"""Sample times in seconds."""
MAX_FRAMES = 1_000_000
_COMMON_RATES = (
    10, 12, 15, 20, 24000 / 1001, 24, 25, 30000 / 1001, 30, 48, 50, 60000 / 1001, 60, 72, 75, 90, 100, 120, 240
)  # fmt: skip
_RATE_TOLERANCE = 0.02
"""A measured rate within this share of a common rate is taken to be that rate."""


def infer_rate(times: Times) -> float | None:
    """Samples per second of increasing times; None for a single sample.

    The rate follows from the median step and is rounded to the nearest common rate within 2%.
    """
    steps = np.diff(times)
    if not len(steps):
        return None
    median = float(np.median(steps))
    counted = np.round(steps / median).clip(min=1)  # a step over missing samples counts as several
    regular = counted <= 2
    measured = float(counted[regular].sum() / steps[regular].sum())
    nearest = min(_COMMON_RATES, key=lambda rate: abs(rate - measured))
    return float(nearest) if abs(nearest - measured) <= _RATE_TOLERANCE * nearest else measured


def frame_times(seconds: float, fps: float) -> Float[np.ndarray, "timesteps"]:
    """The times of all frames from 0 to `seconds`, the last one nearest to it.

    Raises:
        InputError: there would be more than `MAX_FRAMES`.
    """
    count = round(seconds * fps) + 1
    if count > MAX_FRAMES:
        raise InputError("motion", "lasts too long", expected=f"at most {MAX_FRAMES} frames", actual=count)
    return np.arange(count) / fps


def resample(times: Times, curves: Mapping[str, Float[np.ndarray, "samples"]], fps: float) -> Channels:
    """Curves at every frame, linearly interpolated. NaN marks a missing value; the ends are held."""
    frames = frame_times(float(times[-1] - times[0]), fps)
    channels = {}
    for name, values in curves.items():
        known = np.isfinite(values)
        channels[name] = (
            np.interp(frames, times[known] - times[0], values[known]) if known.any() else np.zeros(len(frames))
        )
    return channels


def hold_indices(times: Times, fps: float) -> Int[np.ndarray, "timesteps"]:
    """For every frame, the index of the sample that is shown."""
    frames = frame_times(float(times[-1] - times[0]), fps)
    return np.searchsorted(times - times[0], frames + 0.5 / fps, side="left").clip(min=1) - 1
