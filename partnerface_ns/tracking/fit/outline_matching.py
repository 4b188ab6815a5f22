"""Correspondences between the outline of a matte and the surface of the head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_MAX_RIM_COSINE = 0.45
"""Largest cosine between normal and line of sight at which a surface point can lie on the outline."""
_MIN_NORMAL_COSINE = 0.6
"""Smallest cosine between the normals of an outline point and of the surface point that matches it."""
_MAX_ALONG = 7.0
"""Largest distance along the outline between an outline point and a candidate, pixels at 512."""


@dataclass(frozen=True)
class Matches:
    """The surface point of each outline point."""

    indices: Int[Tensor, "frames points"]
    """Indices into the surface points; arbitrary where there is no match."""
    valid: Bool[Tensor, "frames points"]


def match_outline(
    outline: Float[Tensor, "frames points 4"],
    projected: Float[Tensor, "frames verts 2"],
    normals: Float[Tensor, "frames verts 2"],
    facing: Float[Tensor, "frames verts"],
    gate: float,
    px: float,
) -> Matches:
    """Match each outline point to the surface point beside it that lies farthest outside.

    Args:
        outline: points and normals; NaN where there is no point.
        projected: surface points, pixels.
        normals: unit normals of the surface points in the image plane.
        facing: cosines between the normals of the surface points and their lines of sight.
        gate: largest distance between outline and surface, pixels.
        px: pixels of the image for one pixel at 512.
    """
    frames = [_match_frame(*arrays, gate, px) for arrays in zip(outline, projected, normals, facing, strict=True)]
    indices, valid = zip(*frames, strict=True)
    return Matches(torch.stack(indices), torch.stack(valid))


def _match_frame(
    outline: Float[Tensor, "points 4"],
    projected: Float[Tensor, "verts 2"],
    normals: Float[Tensor, "verts 2"],
    facing: Float[Tensor, "verts"],
    gate: float,
    px: float,
) -> tuple[Int[Tensor, "points"], Bool[Tensor, "points"]]:
    """Indices and validity of the matches of one frame."""
    rim = torch.nonzero(facing.abs() < _MAX_RIM_COSINE)[:, 0]
    offset = projected[None, rim] - outline[:, None, :2]
    outward = (offset * outline[:, None, 2:]).sum(-1)
    along = (offset[..., 0] * outline[:, None, 3] - offset[..., 1] * outline[:, None, 2]).abs()
    aligned = (normals[rim] @ outline[:, 2:].T > _MIN_NORMAL_COSINE).T
    candidate = (along < _MAX_ALONG * px) & (outward.abs() < gate) & aligned
    outward = torch.where(candidate, outward, -torch.inf)
    # One more column, which is never valid, keeps `max` defined if the rim is empty.
    best = torch.nn.functional.pad(outward, (0, 1), value=-torch.inf).max(-1)
    return torch.nn.functional.pad(rim, (0, 1))[best.indices], torch.isfinite(best.values)
