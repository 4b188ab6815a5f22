"""Volume rendering weights.

    alpha_i = 1 - exp(-sigma_i delta_i),   w_i = alpha_i prod_{j<i} (1 - alpha_j)

sigma is in 1/m, delta in metres. Source: Mildenhall et al., "NeRF", 2020, equation 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def weights_from_density(
    density: Float[Tensor, "rays samples"], delta: Float[Tensor, "rays samples"]
) -> Float[Tensor, "rays samples"]:
    """Weight of each sample in its ray's pixel; the weights of a ray sum to at most one."""
    optical_depth = density * delta
    before = F.pad(running_sums(optical_depth)[:, :-1], (1, 0))
    return -torch.expm1(-optical_depth) * torch.exp(-before)


def running_sums(values: Float[Tensor, "*rows entries"]) -> Float[Tensor, "*rows entries"]:
    """Cumulative sums of each row.

    A GPU multiplies by a triangular matrix of ones in float32, which is faster than its scan of short rows.
    """
    if not values.is_cuda:
        return values.cumsum(-1)
    num = values.shape[-1]
    with torch.autocast("cuda", enabled=False):
        return values.float() @ torch.ones(num, num, device=values.device).triu()


def surface_heights(
    density: Float[Tensor, "verts heights"],
    heights: Float[Tensor, "heights"],
    ends: Bool[Tensor, "verts heights"],
    optical_depth: float,
) -> tuple[Float[Tensor, "verts"], Bool[Tensor, "verts"]]:
    """Height of the visible surface at each vertex, and whether there is one.

    Args:
        density: 1/m.
        heights: heights of the samples above the skin, ascending and even, metres.
        ends: samples from which on outward nothing belongs to the vertex.
        optical_depth: optical depth at the surface.
    """
    step = heights[1] - heights[0]
    belongs = ends.long().cumsum(1) == 0
    depth = step * (density * belongs).flip(1).cumsum(1).flip(1)  # optical depth from outside
    opaque = depth > optical_depth
    index = (opaque.long() * torch.arange(1, len(heights) + 1, device=heights.device)).amax(1) - 1
    return heights[index.clamp(min=0)], index >= 0
