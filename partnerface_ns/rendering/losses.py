"""Weights of all loss terms, and the losses of colour and mask.

The method's paper does not publish its weights; they are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_CERTAIN = 0.02
"""Distance of the mask's alpha from 0 or 1 up to which a pixel counts as background or foreground."""


@dataclass
class LossConfig:
    """Weights of the loss terms."""

    ABSENT: ClassVar[dict[str, float]] = {"height_weight": 0.0}

    color_beta: float = 0.1
    """Colour error, 0 to 1, at which the robust colour loss changes from quadratic to linear."""
    mask_weight: float = 0.03
    """Weight of the damped cross entropy of opacity and foreground mask. Use 0 if masks are bad."""
    clear_weight: float = 0.0
    """Weight of 4 a (1 - a), the mean ambiguity of the opacity a of a ray, in the last part of training. It makes
    outlines sharp where the mask's alpha is 0 or 1; other pixels are left out."""
    geometry_weight: float = 5e-4
    """Weight of the robust loss on the log density's correction, which keeps the surface near the head model's."""
    height_weight: float = 0.3
    """Weight of the mean height of the visible surface above the skin, metres. Where images leave its depth undecided,
    hair and clothes lie near the mesh instead of in front of it."""
    offset_weight: float = 3e-4
    """Weight of the mean squared offset of the part deformation, in units of `offset_scale`."""
    elsewhere_weight: float = 1e-3
    """Weight of the same at random canonical points, which keeps the deformation small where no ray passes."""
    ambient_weight: float = 1e-4
    """Weight of the mean squared ambient coordinates, which limits appearance that changes with the expression."""
    planes_weight: float = 0.03
    """Weight of the mean squared difference of neighbouring cells of the feature planes. It interpolates features into
    regions that training hardly saw."""
    smoothness_weight: float = 1e-3
    """Weight of the mean squared change of the part weights over a centimetre, in the soft stage."""
    mouth_weight: float = 3e-3
    """Weight of the mean colour inside the mouth, without the surface that training sees there. The term makes unseen
    points and the space between the walls dark. It is left out if the weight is 0 or the head model has no inside of
    the mouth."""


def color_loss(rgb: Float[Tensor, "*rays 3"], target: Float[Tensor, "*rays 3"], beta: float) -> Float[Tensor, ""]:
    """Robust colour difference: the squared difference below `beta`, linear above."""
    return 2 * beta * F.smooth_l1_loss(rgb, target, beta=beta)


def ambiguity(optical_depth: Float[Tensor, "*rays 1"], mask: Float[Tensor, "*rays 1"]) -> Float[Tensor, ""]:
    """Mean of 4 a (1 - a) over the rays whose mask is 0 or 1, for the opacity a = 1 - exp(-optical_depth)."""
    through = torch.exp(-optical_depth)
    certain = ((mask < _CERTAIN) | (mask > 1 - _CERTAIN)).to(through.dtype)
    return (4 * through * (1 - through) * certain).mean()


def mean_height(height: Float[Tensor, "*rays 1"], optical_depth: Float[Tensor, "*rays 1"]) -> Float[Tensor, ""]:
    """Mean over all rays of the surface's height times the opacity, metres.

    No gradient reaches the opacity, so the term cannot make rays transparent.

    Args:
        height: mean height of the visible surface times the opacity of each ray, metres.
        optical_depth: -log(1 - opacity) of each ray.
    """
    opacity = -torch.expm1(-optical_depth)
    return (height * (opacity.detach() / opacity.clamp(min=1e-3))).mean()


def mask_loss(optical_depth: Float[Tensor, "*rays 1"], mask: Float[Tensor, "*rays 1"]) -> Float[Tensor, ""]:
    """Damped cross entropy of opacity and foreground mask, as a function of the optical depth t = -log(1 - opacity).

    For background the cross entropy is t. It is damped to log(1 + t), so that a wrong mask costs little. Unlike the
    squared opacity, it still has a gradient where a background ray is opaque.

    Args:
        optical_depth: t of each ray.
        mask: foreground in [0, 1].
    """
    inside = -torch.log(-torch.expm1(-optical_depth) + 1e-3)
    return (mask * inside + (1 - mask) * torch.log1p(optical_depth)).mean()
