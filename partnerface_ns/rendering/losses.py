"""What training minimises; every weight is a field of `LossConfig`. The method's paper does not publish its weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass
class LossConfig:
    """Weights of the loss terms."""

    color_beta: float = 0.1
    """Colour error (0 to 1) at which the robust colour loss turns from square to linear."""
    mask_weight: float = 0.03
    """Weight of the damped cross entropy of opacity and foreground mask; 0 where masks are bad."""
    geometry_weight: float = 5e-4
    """Weight of the (robust) correction of log density, which keeps the surface near the head model's."""
    offset_weight: float = 3e-4
    """Weight of the mean squared deformation (in units of `offset_scale`), which keeps parts near skinning."""
    elsewhere_weight: float = 1e-3
    """Weight of the same at random possible places, which keeps the deformation still where no ray looks."""
    ambient_weight: float = 1e-4
    """Weight of the mean squared ambient coordinates, which keeps appearance from following the expression
    needlessly."""
    planes_weight: float = 0.03
    """Weight of the mean squared difference of neighbouring cells of the feature planes: what training hardly saw
    follows what lies around it."""
    smoothness_weight: float = 1e-3
    """Weight of the squared change of the part weights over a centimetre, in the soft stage."""
    mouth_weight: float = 1e-3
    """Weight of the mean squared colour inside the mouth, so that what no image shows of it is dark, not skin; 0
    leaves it out, and so does a head model whose mouth has no inside."""


def color_loss(rgb: Float[Tensor, "*rays 3"], target: Float[Tensor, "*rays 3"], beta: float) -> Float[Tensor, ""]:
    """Robust colour difference: square below `beta`, linear above, scaled to equal the square where small."""
    return 2 * beta * F.smooth_l1_loss(rgb, target, beta=beta)


def mask_loss(optical_depth: Float[Tensor, "*rays 1"], mask: Float[Tensor, "*rays 1"]) -> Float[Tensor, ""]:
    """Cross entropy of opacity and foreground mask, in terms of the optical depth t = -log(1 - opacity).

    -log(1 - opacity) is t itself; its growth is damped to log(1 + t) so that a wrong mask costs little, while the
    gradient of a ray that is wrongly opaque does not vanish as that of the opacity's square does.
    """
    inside = -torch.log(-torch.expm1(-optical_depth) + 1e-3)
    return (mask * inside + (1 - mask) * torch.log1p(optical_depth)).mean()
