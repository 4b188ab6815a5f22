"""Surface prior: features and expected density of canonical points that follow from the head model's mesh.

The expected density is high inside the mesh, low from a centimetre outside, and zero beyond the reach of hair and
clothes. Without the prior, density collects in front of the face before head turns reveal its depth. At the mouth
it falls off faster, because there is no hair and the gap between the canonical lips is narrow. The prior is our choice.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partnerface_ns.warp.canonical_space import CanonicalSpace

NUM_FEATURES = 2
"""Features of a point: signed distance to the mesh, and clearance (distance to the outer limit of density)."""
_HAIR = 0.02
"""Unit of both features, metres: about the thickness of hair."""
_SKIN = 0.01
"""Signed distance in metres up to which density is expected to be skin; hair and glasses begin above."""
_SKIN_THICKNESS = 0.003
"""Signed distance in metres up to which a surface has no height: the mesh is not more accurate."""
_DEEP = 0.03
"""Depth below the mesh in metres at which nothing is visible."""
_LOG_DENSITY_INSIDE, _SLOPE, _LOG_DENSITY_RANGE = 6.0, 800.0, (0.5, 7.0)
"""Expected log density at the mesh, its decrease per metre outside at steepness 1, and its lower and upper limits."""


class SurfaceFeatures(NamedTuple):
    """Features and expected density of canonical points."""

    features: Float[Tensor, "points 2"]
    """Signed distance and clearance in units of hair thickness, limited to [-1.5, 3]."""
    log_density: Float[Tensor, "points"]
    """Logarithm of the expected density in 1/m; -inf where no density may be."""

    @property
    def at_skin(self) -> Bool[Tensor, "points"]:
        """Points at which density is expected to be skin."""
        return self.features[:, 0] < _SKIN / _HAIR

    @property
    def height(self) -> Float[Tensor, "points"]:
        """Height above the skin, metres: the signed distance less 3 mm, from 0 to 5.7 cm."""
        return (_HAIR * self.features[:, 0] - _SKIN_THICKNESS).clamp(min=0)


def surface_features(space: CanonicalSpace, points: Float[Tensor, "points 3"]) -> SurfaceFeatures:
    """Features and expected density of points in the canonical frame, metres."""
    distance, clearance, steepness = space.distance_clearance_and_steepness(points)
    features = torch.stack([distance / _HAIR, clearance / _HAIR], -1).clamp(-1.5, 3)
    expected = (_LOG_DENSITY_INSIDE - _SLOPE * steepness * distance).clamp(*_LOG_DENSITY_RANGE)
    return SurfaceFeatures(features, torch.where(clearance > 0, expected, -torch.inf))


def can_be_occupied(space: CanonicalSpace, points: Float[Tensor, "points 3"]) -> Bool[Tensor, "points"]:
    """Points within reach of the mesh and not deep inside it."""
    distance, clearance = space.distance_and_clearance(points)
    return (clearance > 0) & (distance > -_DEEP)
