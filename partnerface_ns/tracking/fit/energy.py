"""The terms of the fit's energy, each a pure function.

Every term is a sum over frames of half squared residuals in units of a standard deviation, robust where outliers are
expected. The weights are therefore uncertainties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.tracking.video.face_topology import (
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
"""Error of the detector at a well-defined landmark, pixels at 512."""
_SIGMA_FACTORS = ((OVAL, 1.5), (BROWS, 1.5), (LIPS, 0.8), ((*EYE_LEFT, *EYE_RIGHT), 0.7))
"""Factors on the error. The outline of the face slides over the skin and brows differ between people, but lips and lids
are detected well."""
_IRIS_FACTOR = 0.8
CORRELATED_LANDMARKS = 8.0
"""Errors of neighbouring landmarks are correlated: this many landmarks count as one."""
CORRELATED_POINTS = 4.0
"""The same for neighbouring points of the outline."""
OUTLIER = 3.0
"""Residuals beyond this many standard deviations are outliers."""


@dataclass(frozen=True)
class Priors:
    """Standard deviations of the unknowns; angles are radians."""

    identity: float = 1.0
    displacement: float = 0.015
    """Displacement of hair, neck and shoulders along the normal, metres."""
    expression: float = 0.35
    """Coefficients of named face units, which range from 0 to 1."""
    mean_expression: float = 0.12
    """Mean over the video: a permanent feature belongs to the shape, not to the expression."""
    unnamed_expression: float = 1.0
    """Coefficients of models without named face units."""
    beyond_bounds: float = 0.08
    """Excess of named face units outside 0 to 1."""
    neck: float = 0.3
    root: float = 0.15
    """Rotation from upright."""
    root_motion: float = 0.06
    """Rotation from the mean over the video: the torso rotates little."""
    sway: float = 0.03
    """Distance of the torso from its mean over the video, metres."""
    jaw_open: float = 0.3
    jaw_at_rest: float = 0.04
    """Robust width around the closed mouth, radians: most frames show it, and a wide opening costs hardly more than a
    small one."""
    jaw_closed: float = 0.01
    """Rotation beyond the closed mouth."""
    jaw_side: float = 0.03
    gaze: float = 0.25
    vergence: float = 0.02
    """This is also the mean: both eyes look at a point at a distance of 1.5 metres."""
    log_focal: float = 0.15


@dataclass(frozen=True)
class Steadiness:
    """Standard deviations of second differences in time, at 25 frames per second; angles are radians."""

    angle: float = 0.010
    """Rotation of the skull."""
    root: float = 0.002
    place: float = 0.6
    """Position of the head in the image, pixels at 512."""
    log_depth: float = 0.002
    jaw: float = 0.03
    gaze: float = 0.08
    vergence: float = 0.02
    expression: float = 0.12
    eyelid: float = 0.4
    """Large, because a blink lasts only four frames."""

    def of_expression(self, names: tuple[str, ...]) -> Float[Tensor, "expr"]:
        """The standard deviation of each expression coefficient, by its name."""
        lids = [name.startswith(("eyeBlink", "eyeSquint")) for name in names]
        return torch.where(torch.tensor(lids), self.eyelid, self.expression)


def landmark_sigmas(spread_px: Float[np.ndarray, "landmarks"]) -> Float[Tensor, "landmarks"]:
    """Return the uncertainty of each landmark, pixels at 512.

    Args:
        spread_px: uncertainty of the landmark's position on the head, pixels at 512.
    """
    factor = np.ones(NUM_LANDMARKS)
    for indices, value in _SIGMA_FACTORS:
        factor[list(indices)] = value
    factor[IRIS_LEFT] = factor[IRIS_RIGHT] = _IRIS_FACTOR
    return torch.from_numpy(np.hypot(LANDMARK_SIGMA * factor, 0.35 * spread_px)).float()


def half_square(values: Float[Tensor, "..."], sigma: float | Tensor) -> Float[Tensor, ""]:
    """Negative logarithm of a normal density, up to a constant."""
    return 0.5 * (values / sigma).square().sum()


def geman_mcclure(squared: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Robust energy that is half the square near zero and bounded far away (Geman-McClure).

    Args:
        squared: squared residuals in units of their standard deviation.
    """
    return 0.5 * squared * OUTLIER**2 / (OUTLIER**2 + squared)


def pseudo_huber(squared: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Robust energy that is half the square near zero and linear in the distance far away (pseudo-Huber).

    Args:
        squared: squared residuals in units of their standard deviation.
    """
    return OUTLIER**2 * ((1 + squared / OUTLIER**2).sqrt() - 1)


def geman_mcclure_weight(squared: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Factor of a squared residual whose gradient equals that of `geman_mcclure`, for reweighted least squares."""
    return (OUTLIER**2 / (OUTLIER**2 + squared)).square()


def pseudo_huber_weight(squared: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Factor of a squared residual whose gradient equals that of `pseudo_huber`, for reweighted least squares."""
    return (1 + squared / OUTLIER**2).rsqrt()


def landmark_energy(
    projected: Float[Tensor, "frames landmarks 2"],
    detected: Float[Tensor, "frames landmarks 2"],
    sigmas: Float[Tensor, "landmarks"],
    weights: Float[Tensor, "frames landmarks"],
) -> Float[Tensor, ""]:
    """Distances of the landmarks from the detected ones.

    The energy is linear for distant landmarks, because early in the fit pose or shape are wrong, not the detection.
    """
    squared = ((projected - detected) / sigmas[:, None]).square().sum(-1)
    return (weights * pseudo_huber(squared)).sum() / CORRELATED_LANDMARKS


def gap_energy(
    projected: Float[Tensor, "frames landmarks 2"],
    detected: Float[Tensor, "frames landmarks 2"],
    pairs: Int[Tensor, "pairs 2"],
    sigma: float,
    weights: Float[Tensor, "frames landmarks"],
) -> Float[Tensor, ""]:
    """Errors of the gaps between lids and between lips, which determine blinks and speech better than positions."""
    gap = projected[:, pairs[:, 0]] - projected[:, pairs[:, 1]]
    detected_gap = detected[:, pairs[:, 0]] - detected[:, pairs[:, 1]]
    return (weights[:, pairs[:, 0]] * pseudo_huber(((gap - detected_gap) / sigma).square().sum(-1))).sum()


def outline_energy(
    points: Float[Tensor, "matches 2"], outline: Float[Tensor, "matches 4"], sigma: float
) -> Float[Tensor, ""]:
    """Distances of surface points from the tangents of the outline, pixels."""
    distance = ((points - outline[:, :2]) * outline[:, 2:]).sum(-1)
    return geman_mcclure((distance / sigma).square()).sum() / CORRELATED_POINTS


def bounds_energy(
    coefficients: Float[Tensor, "frames expr"], low: float, high: float, sigma: float
) -> Float[Tensor, ""]:
    """Excess of coefficients outside their bounds."""
    beyond = (low - coefficients).clamp(min=0) + (coefficients - high).clamp(min=0)
    return 0.5 * (beyond / sigma).square().sum()


def steadiness_energy(
    values: Float[Tensor, "frames channels"], sigma: float | Tensor, neighbours: Float[Tensor, "frames"]
) -> Float[Tensor, ""]:
    """Second differences in time; `neighbours` is 0 at frames without neighbours, else 1.

    The energy is linear for large differences, because a fast turn of the head is rare but real.
    """
    second_difference = values[2:] - 2 * values[1:-1] + values[:-2]
    return (pseudo_huber((second_difference / sigma).square()).sum(-1) * neighbours[1:-1]).sum()
