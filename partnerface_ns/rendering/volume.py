"""Volume rendering: densities and colours along rays to pixels.

    alpha_i = 1 - exp(-sigma_i delta_i),   w_i = alpha_i prod_{j<i} (1 - alpha_j)

sigma is 1/m, delta metres. Source: Mildenhall et al., "NeRF", 2020, equation 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def weights_from_density(
    density: Float[Tensor, "rays samples"], delta: Float[Tensor, "rays samples"]
) -> Float[Tensor, "rays samples"]:
    """Share of each sample in its ray's pixel; the shares of a ray sum to at most one."""
    optical_depth = density * delta
    before = F.pad(optical_depth.cumsum(1)[:, :-1], (1, 0))
    return -torch.expm1(-optical_depth) * torch.exp(-before)


def composite(
    weights: Float[Tensor, "rays samples"], values: Float[Tensor, "rays samples channels"]
) -> Float[Tensor, "rays channels"]:
    """Weighted sum of the samples' values."""
    return torch.einsum("rs,rsc->rc", weights, values)
