"""Check that images and poses are of the same frames: the head must move as the masks move.

Images in another order than the poses overlap the heads well on average, but other masks fit a head better than its
own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from partnerface_ns.capture.capture import Frame
from partnerface_ns.capture.overlap import rows_to_chin
from partnerface_ns.capture.verdict import SHUFFLED, describe_shift

_MIN_OWN_PREFERENCE = 0.4
"""Preference of heads for their own mask, in standard deviations, below which the order is wrong."""
_MIN_LAG_PREFERENCE = 1.0
"""Preference for the masks of one lag from which that lag is named."""
_MIN_MOTION = 0.01
"""Motion as a share of the head's size below which the order cannot be checked."""
_MAX_LAG, _MIN_LAG, _LAG_GAIN = 15, 3, 0.2
"""Lags that are tried and named, in compared frames, and how much better they must fit than no lag."""


def find_order_fault(
    frames: Sequence[Frame], heads: Bool[np.ndarray, "frames h w"], masks: Bool[np.ndarray, "frames h w"]
) -> str | None:
    """The fault in the order of the frames, for people; None without one, or if the head hardly moves.

    Args:
        frames: frames of one camera in order of time.
        heads: their silhouettes.
        masks: their foreground masks.
    """
    if len(frames) < 6 or not heads.any() or min(_motion(heads, heads), _motion(masks, heads)) < _MIN_MOTION:
        return None
    preference = _preference(heads, masks)
    own = float(np.diagonal(preference).mean())
    lags = [lag for lag in range(-_MAX_LAG, _MAX_LAG + 1) if _MIN_LAG <= abs(lag) < len(frames) // 2]
    by_lag = {lag: float(np.diagonal(preference, lag).mean()) for lag in lags}
    lag = max(by_lag, key=lambda k: by_lag[k], default=0)
    if lag and by_lag[lag] > max(own + _LAG_GAIN, _MIN_LAG_PREFERENCE):
        stride = max(1, round((frames[-1].timestep - frames[0].timestep) / (len(frames) - 1)))
        return describe_shift(lag * stride)
    return SHUFFLED if own < _MIN_OWN_PREFERENCE else None


def _preference(
    heads: Bool[np.ndarray, "frames h w"], masks: Bool[np.ndarray, "frames h w"]
) -> Float[np.ndarray, "frames frames"]:
    """How much better each head fits each mask than other heads and masks do, in standard deviations."""
    rows = np.stack([rows_to_chin(head) for head in heads])
    flat = lambda images: images.reshape(len(images), -1).astype(np.float32)  # noqa: E731
    both = flat(heads) @ flat(masks).T
    union = both / (flat(heads).sum(1)[:, None] + flat(rows) @ flat(masks).T - both).clip(1)
    centered = union - union.mean(0, keepdims=True) - union.mean(1, keepdims=True) + union.mean()
    return centered / (centered.std() + 1e-12)


def _motion(images: Bool[np.ndarray, "frames h w"], heads: Bool[np.ndarray, "frames h w"]) -> float:
    """Standard deviation of the images' centroid in the rows of the heads, as a share of a head's size."""
    rows = np.flatnonzero(heads.any((0, 2)))
    band = images[:, rows[0] : rows[-1] + 1]
    weights = band.sum((1, 2)).clip(1)
    x = (band.sum(1) * np.arange(band.shape[2])).sum(1) / weights
    y = (band.sum(2) * np.arange(band.shape[1])).sum(1) / weights
    return float(np.hypot(x.std(), y.std()) / np.sqrt(heads.sum((1, 2)).mean()))
