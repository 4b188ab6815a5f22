"""What an avatar's parts look like, as colours."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.geometry.rows import Rows
from partnerface_ns.warp.part_assigner import PartWeights


def part_colors(num_parts: int, device: torch.device | str = "cpu") -> Float[Tensor, "parts 3"]:
    """A distinct colour in [0, 1] for each part: hues by the golden ratio, two brightnesses."""
    hue = torch.arange(num_parts, device=device) * 0.618034 % 1
    phase = torch.stack([hue, hue + 2 / 3, hue + 1 / 3], -1)
    brightness = torch.where(torch.arange(num_parts, device=device) % 2 == 0, 1.0, 0.7)
    return ((0.5 + 0.5 * torch.cos(2 * torch.pi * phase)) * brightness[:, None]).clamp(0, 1)


def colors_of_parts(
    parts: tuple[Rows, PartWeights] | None, num_parts: int, points: Float[Tensor, "points 3"]
) -> Float[Tensor, "points 3"]:
    """Each point's mixture of its parts' colours; grey without parts.

    Args:
        parts: the points that have parts, and those.
        num_parts: K.
        points: as many as there are colours to give.
    """
    grey = torch.full_like(points, 0.5)
    if parts is None:
        return grey
    which, weights = parts
    colors = part_colors(num_parts, points.device)[weights.index]
    return which.scatter(grey, (colors * weights.weight[..., None]).sum(1))
