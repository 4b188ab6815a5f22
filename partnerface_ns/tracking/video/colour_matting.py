"""Alpha and foreground colours from the colours of the surroundings.

    image = alpha * foreground + (1 - alpha) * background + noise

Foreground and background colours are Gaussian in each neighbourhood, as in Chuang et al., "A Bayesian approach to
digital matting" (2001) and "Video matting of complex scenes" (2002). Their means and covariances come from nearby
pixels that surely show the person or the background. Alpha gets a Gaussian prior about the matte of the network. The
result is the posterior mean, computed over a fixed grid of alphas.

Colours are in [0, 1]. A symmetric 3x3 matrix is stored as (00, 01, 02, 11, 12, 22).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from partnerface_ns.tracking.video.packages import require

_ALPHAS = np.linspace(0, 1, 11, dtype=np.float32)
_PRIOR_SPREAD = 0.2
"""Standard deviation of alpha about the network's matte."""
_PURE = 4.0
"""Logarithm of the factor by which alphas 0 and 1 are likelier than the others."""
_NOISE = 0.012**2
"""Variance of the sensor noise and of the compression."""
_FREEDOM = 4.0
"""Degrees of freedom of the residual's Student distribution; its long tails tolerate unseen colours."""
FIRST, SECOND = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 1, 2, 2])
_DIAGONAL = np.array([1, 0, 0, 1, 0, 1], dtype=np.float32)


@dataclass(frozen=True)
class Colours:
    """Gaussian colours, one for each pixel."""

    mean: Float[np.ndarray, "*pixels 3"]
    covariance: Float[np.ndarray, "*pixels 6"]

    @property
    def variance(self) -> Float[np.ndarray, "*pixels"]:
        """Sum of the variances of the three channels."""
        return (self.covariance * _DIAGONAL).sum(-1)

    def __getitem__(self, index: object) -> Colours:
        return Colours(self.mean[index], self.covariance[index])  # type: ignore[index]

    @staticmethod
    def choose(condition: Bool[np.ndarray, "*pixels"], first: Colours, second: Colours) -> Colours:
        """The first where a condition holds, the second elsewhere."""
        where = condition[..., None]
        return Colours(np.where(where, first.mean, second.mean), np.where(where, first.covariance, second.covariance))


def surrounding_colours(
    rgb: Float[np.ndarray, "rows columns 3"],
    weights: Float[np.ndarray, "rows columns"],
    where: Bool[np.ndarray, "rows columns"],
    radius: int,
) -> Colours:
    """Mean and covariance of the weighted pixels around some pixels, computed at half the size.

    Pixels within four times the radius count a little, so that they decide where nearer pixels have no weight.

    Args:
        rgb: the image.
        weights: of its pixels.
        where: the pixels whose surroundings are returned.
        radius: half the side of the window around each, pixels.
    """
    cv2 = require("cv2")
    rows, columns = weights.shape
    half = ((columns + 1) // 2, (rows + 1) // 2)
    small, share = (
        cv2.resize(values, half, interpolation=cv2.INTER_AREA) for values in (rgb * weights[..., None], weights)
    )
    small = small / np.maximum(share, 1e-6)[..., None]
    values = np.concatenate([np.ones_like(small[..., :1]), small, small[..., FIRST] * small[..., SECOND]], -1)
    values *= share[..., None]

    def mean(radius: int) -> np.ndarray:
        return cv2.blur(values, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REPLICATE)

    total = mean(max(1, radius // 2)) + 0.05 * mean(2 * radius) + 1e-5 * values.mean((0, 1))
    y, x = np.nonzero(where)
    total = total[y // 2, x // 2]
    moments = total[:, 1:] / np.maximum(total[:, :1], 1e-9)
    average = moments[:, :3]
    return Colours(average, moments[:, 3:] - average[:, FIRST] * average[:, SECOND])


def estimate_alpha(
    rgb: Float[np.ndarray, "pixels 3"],
    foreground: Colours,
    background: Colours,
    prior: Float[np.ndarray, "pixels"],
) -> Float[np.ndarray, "pixels"]:
    """Return the posterior mean of alpha.

    Args:
        rgb: colours of the image.
        foreground: distribution of the foreground's colour.
        background: distribution of the background's colour.
        prior: alpha that the network expects.
    """
    scores = np.empty((len(_ALPHAS), len(rgb)), dtype=np.float32)
    for score, alpha in zip(scores, _ALPHAS, strict=True):
        residual = rgb - alpha * foreground.mean - (1 - alpha) * background.mean
        inverse, determinant = _invert(
            alpha**2 * foreground.covariance + (1 - alpha) ** 2 * background.covariance + _NOISE * _DIAGONAL
        )
        distance = (residual * _multiply(inverse, residual)).sum(-1)
        score[:] = -0.5 * (np.log(determinant) + (_FREEDOM + 3) * np.log1p(distance / _FREEDOM))
        score -= 0.5 * ((alpha - prior) / _PRIOR_SPREAD) ** 2
    scores[[0, -1]] += _PURE
    weights = np.exp(scores - scores.max(0))
    return (_ALPHAS @ weights) / weights.sum(0)


def estimate_foreground(
    rgb: Float[np.ndarray, "pixels 3"],
    alpha: Float[np.ndarray, "pixels"],
    foreground: Colours,
    background: Colours,
) -> Float[np.ndarray, "pixels 3"]:
    """Return the foreground's most probable colour for an alpha; it is `explainable`."""
    share = alpha[:, None]
    residual = rgb - share * foreground.mean - (1 - share) * background.mean
    covariance = share**2 * foreground.covariance + (1 - share) ** 2 * background.covariance + _NOISE * _DIAGONAL
    change = share * _multiply(foreground.covariance + _NOISE * _DIAGONAL, _multiply(_invert(covariance)[0], residual))
    return explainable(foreground.mean + change, alpha, rgb)


def explainable(
    foreground: Float[np.ndarray, "*pixels 3"], alpha: Float[np.ndarray, "*pixels"], rgb: Float[np.ndarray, "*pixels 3"]
) -> Float[np.ndarray, "*pixels 3"]:
    """Clip foreground colours so that a background in [0, 1] exists that gives the image exactly."""
    share = np.maximum(alpha[..., None], 1e-6)
    return np.clip(foreground, np.maximum((rgb - (1 - share)) / share, 0), np.minimum(rgb / share, 1))


def _invert(matrix: Float[np.ndarray, "pixels 6"]) -> tuple[Float[np.ndarray, "pixels 6"], Float[np.ndarray, "pixels"]]:
    """Inverses and determinants of positive definite matrices."""
    a, b, c, d, e, f = matrix.T
    adjugate = np.stack([d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b], -1)
    determinant = np.maximum(a * adjugate[:, 0] + b * adjugate[:, 1] + c * adjugate[:, 2], 1e-15)
    return adjugate / determinant[:, None], determinant


def _multiply(matrix: Float[np.ndarray, "pixels 6"], vector: Float[np.ndarray, "pixels 3"]) -> np.ndarray:
    a, b, c, d, e, f = matrix.T
    x, y, z = vector.T
    return np.stack([a * x + b * y + c * z, b * x + d * y + e * z, c * x + e * y + f * z], -1)
