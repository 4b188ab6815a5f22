"""Colours of parts, for inspection."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.geometry.rows import Rows
from partnerface_ns.warp.part_assigner import PartWeights


def part_colors(num_parts: int, device: torch.device | str = "cpu") -> Float[Tensor, "parts 3"]:
    """A distinct colour in [0, 1] for each part. Hues follow the golden ratio; brightness alternates."""
    hue = torch.arange(num_parts, device=device) * 0.618034 % 1
    phase = torch.stack([hue, hue + 2 / 3, hue + 1 / 3], -1)
    brightness = torch.where(torch.arange(num_parts, device=device) % 2 == 0, 1.0, 0.7)
    return ((0.5 + 0.5 * torch.cos(2 * torch.pi * phase)) * brightness[:, None]).clamp(0, 1)


def colors_of_parts(
    parts: tuple[Rows, PartWeights] | None, num_parts: int, points: Float[Tensor, "points 3"]
) -> Float[Tensor, "points 3"]:
    """Part colours of each point, mixed by its part weights; grey for points without parts.

    Args:
        parts: the points that have parts, and their part weights; None without parts.
        num_parts: K.
        points: all points.
    """
    grey = torch.full_like(points, 0.5)
    if parts is None:
        return grey
    with_parts, weights = parts
    colors = part_colors(num_parts, points.device)[weights.index]
    return with_parts.scatter(grey, (colors * weights.weight[..., None]).sum(1))
