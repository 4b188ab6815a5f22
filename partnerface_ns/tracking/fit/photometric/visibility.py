"""Visibility of surface points: their normals against the line of sight, and a coarse depth buffer."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.tracking.fit.landmark_weights import normalize

_LOW_COSINE, _HIGH_COSINE = 0.15, 0.5
"""Cosines between normal and line of sight at which a point begins to count, and counts fully."""
_CELL = 6.0
"""Side of a cell of the depth buffer, pixels at 256."""
_TOLERANCE, _SLOPE_TOLERANCE = 0.012, 0.008
"""A point is covered if it lies this far behind the nearest point of its cell, metres. The second value is multiplied
by the tangent of the angle between normal and line of sight."""


def visibility(
    points: Float[Tensor, "frames points 3"],
    normals: Float[Tensor, "frames points 3"],
    pixels: Float[Tensor, "frames points 2"],
    size: int,
) -> Float[Tensor, "frames points"]:
    """Return the visibility of points in [0, 1]. It is not differentiable.

    Args:
        points: positions, metres; the camera is at the origin.
        normals: unit normals.
        pixels: positions in the images.
        size: side of the images, pixels.
    """
    cosine = -(normals * normalize(points)).sum(-1)
    facing = ((cosine - _LOW_COSINE) / (_HIGH_COSINE - _LOW_COSINE)).clamp(0, 1)
    side = int(256 / _CELL)
    cells = (pixels * (side / size)).long()
    inside = ((cells >= 0) & (cells < side)).all(-1)
    index = (cells[..., 1] * side + cells[..., 0]).where(inside, side * side)
    depth = -points[..., 2]
    nearest = torch.full((len(points), side * side + 1), torch.inf, device=points.device)
    nearest.scatter_reduce_(1, index, depth.where(facing > 0, torch.inf), "amin")
    tangent = (1 - cosine.square()).clamp(min=0).sqrt() / cosine.clamp(min=_LOW_COSINE)
    behind = depth - nearest.gather(1, index)
    return facing * inside * (behind < _TOLERANCE + _SLOPE_TOLERANCE * tangent)
