"""The template: what each texture point looks like, as a robust mean over the training frames."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from partnerface_ns.tracking.fit.energy import geman_mcclure_weight

_ITERATIONS = 4
_MIN_WEIGHT = 2.0
"""Points with less visibility than this many fully visible frames have no template."""
_MIN_NOISE = 1.0
"""Smallest noise, grey levels of 255."""
_NORMAL = 1.4826
"""Standard deviation of a normal distribution, relative to its median absolute deviation."""


@dataclass(frozen=True)
class Template:
    """The appearance of the texture points."""

    values: Float[Tensor, "texture"]
    """Values of the detail images."""
    known: Float[Tensor, "texture"]
    """1 for points that the training frames show, else 0."""
    noise: float
    """Standard deviation of the residuals of visible points, without outliers."""


def make_template(samples: Float[Tensor, "frames texture"], weights: Float[Tensor, "frames texture"]) -> Template:
    """Average the samples of the training frames.

    The mean is reweighted a few times, so that frames in which a point is covered have no influence.

    Args:
        samples: values of the detail images at the points.
        weights: visibility of the points.
    """
    values = _weighted_mean(samples, weights)
    noise = _MIN_NOISE
    for _ in range(_ITERATIONS):
        noise = robust_noise(samples - values, weights)
        values = _weighted_mean(samples, weights * geman_mcclure_weight(((samples - values) / noise).square()))
    return Template(values, (weights.sum(0) >= _MIN_WEIGHT).float(), noise)


def robust_noise(residuals: Float[Tensor, "frames texture"], weights: Float[Tensor, "frames texture"]) -> float:
    """Standard deviation of the residuals of visible points, from their median absolute deviation."""
    seen = residuals.abs()[weights > 0.5]
    return max(_MIN_NOISE, _NORMAL * float(seen.median())) if len(seen) else _MIN_NOISE


def _weighted_mean(
    samples: Float[Tensor, "frames texture"], weights: Float[Tensor, "frames texture"]
) -> Float[Tensor, "texture"]:
    return (weights * samples).sum(0) / weights.sum(0).clamp(min=1e-6)
