"""Volume rendering weights.

    alpha_i = 1 - exp(-sigma_i delta_i),   w_i = alpha_i prod_{j<i} (1 - alpha_j)

sigma is in 1/m, delta in metres. Source: Mildenhall et al., "NeRF", 2020, equation 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
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
