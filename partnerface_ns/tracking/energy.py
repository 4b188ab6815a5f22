"""What a good fit is: terms of the energy that `fitting.py` minimises, each a pure function.

Every term is a sum over frames of halved squares in units of a standard deviation (robust where outliers are
expected), so that weights are uncertainties and can be read as such.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.tracking.landmarks import (
    BROWS,
    EYE_LEFT,
    EYE_RIGHT,
    IRIS_LEFT,
    IRIS_RIGHT,
    LIPS,
    NUM_LANDMARKS,
    OVAL,
)

LANDMARK_SIGMA = 1.0
"""Pixels at 512: the detector's error at a well-defined landmark."""
_WORSE = ((OVAL, 1.5), (BROWS, 1.5), (LIPS, 0.8), ((*EYE_LEFT, *EYE_RIGHT), 0.7))
"""Factors on the error: the outline of the face slides over the skin, brows sit differently on everyone, lips and
lids are found well."""
_IRIS_FACTOR = 0.8
_SAME_INFORMATION = 8.0
"""Neighbouring landmarks err together: this many count as one."""
OUTLIER = 3.0
"""Standard deviations beyond which residuals are outliers."""


@dataclass(frozen=True)
class Priors:
    """Standard deviations of what is fitted."""

    identity: float = 1.0
    displacement: float = 0.015
    """Metres along the normal, for hair, neck and shoulders."""
    expression: float = 0.35
    """Of named face units, which go from 0 to 1."""
    mean_expression: float = 0.12
    """Of the mean over the video: what a face always shows is its shape, not its expression."""
    unnamed_expression: float = 1.0
    """Of the components that other models have."""
    beyond_bounds: float = 0.08
    """Of named face units outside 0 to 1."""
    neck: float = 0.3
    """Radians."""
    root: float = 0.15
    """Radians from upright."""
    root_motion: float = 0.06
    """Radians from the mean over the video: the torso turns little."""
    sway: float = 0.03
    """Metres of the torso's place from its mean over the video."""
    jaw_open: float = 0.3
    jaw_closed: float = 0.01
    """Of angles beyond the closed mouth."""
    jaw_side: float = 0.03
    gaze: float = 0.25
    vergence: float = 0.02
    """Also the mean: eyes look at something 1.5 metres away."""
    log_focal: float = 0.15


@dataclass(frozen=True)
class Steadiness:
    """Standard deviations of the second difference in time at 25 frames a second."""

    angle: float = 0.010
    """Radians, of the head's rotations."""
    root: float = 0.002
    place: float = 0.6
    """Pixels at 512, of the head's place in the image."""
    log_depth: float = 0.002
    jaw: float = 0.03
    gaze: float = 0.08
    vergence: float = 0.02
    expression: float = 0.12
    eyelid: float = 0.4
    """Blinks are over within four frames."""


def landmark_sigmas(spread_px: Float[np.ndarray, "landmarks"]) -> Float[Tensor, "landmarks"]:
    """Uncertainty of each landmark in pixels at 512.

    Args:
        spread_px: uncertainty of its place on the head, pixels.
    """
    factor = np.ones(NUM_LANDMARKS)
    for indices, value in _WORSE:
        factor[list(indices)] = value
    factor[IRIS_LEFT] = factor[IRIS_RIGHT] = _IRIS_FACTOR
    return torch.from_numpy(np.hypot(LANDMARK_SIGMA * factor, 0.35 * spread_px)).float()


def half_square(values: Float[Tensor, "..."], sigma: float | Tensor) -> Float[Tensor, ""]:
    """Minus the logarithm of a normal density, up to a constant."""
    return 0.5 * (values / sigma).square().sum()


def bounded(squared: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Half the square near zero, and hardly growing beyond some standard deviations (Geman-McClure).

    Args:
        squared: squared residual in units of its standard deviation.
    """
    return 0.5 * squared * OUTLIER**2 / (OUTLIER**2 + squared)


def linear_far(squared: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Half the square near zero, and growing like the distance beyond some standard deviations (pseudo-Huber)."""
    return OUTLIER**2 * ((1 + squared / OUTLIER**2).sqrt() - 1)


def landmark_energy(
    projected: Float[Tensor, "frames landmarks 2"],
    detected: Float[Tensor, "frames landmarks 2"],
    sigmas: Float[Tensor, "landmarks"],
    weights: Float[Tensor, "frames landmarks"],
) -> Float[Tensor, ""]:
    """Distances of landmarks from where they were detected.

    Landmarks far off keep pulling: mostly it is the pose or the person's shape that is not found yet.
    """
    squared = ((projected - detected) / sigmas[:, None]).square().sum(-1)
    return (weights * linear_far(squared)).sum() / _SAME_INFORMATION


def gap_energy(
    projected: Float[Tensor, "frames landmarks 2"],
    detected: Float[Tensor, "frames landmarks 2"],
    pairs: Int[Tensor, "pairs 2"],
    sigma: float,
    weights: Float[Tensor, "frames landmarks"],
) -> Float[Tensor, ""]:
    """Distances between lids and between lips, which say more about blinks and speech than places do."""
    gap = projected[:, pairs[:, 0]] - projected[:, pairs[:, 1]]
    seen = detected[:, pairs[:, 0]] - detected[:, pairs[:, 1]]
    return (weights[:, pairs[:, 0]] * linear_far(((gap - seen) / sigma).square().sum(-1))).sum()


def outline_energy(
    points: Float[Tensor, "matches 2"], outline: Float[Tensor, "matches 4"], sigma: float
) -> Float[Tensor, ""]:
    """Distances of surface points from the lines along the outline, pixels; neighbours err together here too."""
    out = ((points - outline[:, :2]) * outline[:, 2:]).sum(-1)
    return bounded((out / sigma).square()).sum() / 4


def bounds_energy(
    coefficients: Float[Tensor, "frames expr"], low: float, high: float, sigma: float
) -> Float[Tensor, ""]:
    """Named face units go from 0 to 1; outside they look wrong soon."""
    beyond = (low - coefficients).clamp(min=0) + (coefficients - high).clamp(min=0)
    return 0.5 * (beyond / sigma).square().sum()


def steadiness_energy(
    values: Float[Tensor, "frames channels"], sigma: float | Tensor, gaps: Float[Tensor, "frames"]
) -> Float[Tensor, ""]:
    """Second differences in time; `gaps` is 0 at frames whose neighbours are missing."""
    second = values[2:] - 2 * values[1:-1] + values[:-2]
    return 0.5 * ((second / sigma).square().sum(-1) * gaps[1:-1]).sum()
