"""Training objective: the photometric loss, the mask loss and the regularisers, each with its weight.

Every regulariser takes its inputs as arguments. The weights are fields of `LossConfig` and of the torso's and the
correction's settings. The method's paper does not publish its weights; they are our choice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.avatar.avatar import SOFT, Avatar
from partnerface_ns.avatar.render_output import RenderOutput, TrainingSamples
from partnerface_ns.common.precision import autocast_bfloat16, ignore_outer_autocast
from partnerface_ns.rendering.losses import ambiguity, color_loss, mask_loss, mean_height

_CLEAR_START = 0.6
"""Progress from which the opacity of a ray is pushed to 0 or 1."""
_NUM_SMOOTHNESS = 512
"""Approximate number of samples at which the roughness of the part weights is computed."""
_NUM_IN_MOUTH, _AT_SURFACE = 128, 0.002
"""Random points inside the mouth in a step, and the distance from the mesh in metres up to which they are surface."""


def has_clear_term(avatar: Avatar) -> bool:
    """Whether the opacity of rays is pushed to 0 or 1 at this point of training."""
    return avatar.config.losses.clear_weight > 0 and avatar.progress >= _CLEAR_START


@ignore_outer_autocast()
def training_loss(
    avatar: Avatar, output: RenderOutput, rgb: Float[Tensor, "*rays 3"], mask: Float[Tensor, "*rays 1"] | None
) -> dict[str, Float[Tensor, ""]]:
    """Weighted loss terms, whose sum training minimises.

    Rays that were rendered in evaluation mode have only the colour term.

    Args:
        avatar: the avatar that rendered the rays.
        output: rendered rays.
        rgb: true colours in [0, 1], over the avatar's background.
        mask: true foreground in [0, 1]; None without masks.
    """
    losses = avatar.config.losses
    terms = {"color": color_loss(output.rgb, rgb, losses.color_beta)}
    if output.samples is None:
        return terms
    if mask is not None:
        terms["mask"] = losses.mask_weight * mask_loss(output.samples.optical_depth, mask)
        if has_clear_term(avatar):
            terms["clear"] = losses.clear_weight * ambiguity(output.samples.optical_depth, mask)
    return terms | _regularisers(avatar, output.samples)


def _regularisers(avatar: Avatar, samples: TrainingSamples) -> dict[str, Float[Tensor, ""]]:
    config, losses = avatar.config, avatar.config.losses
    weights = samples.on_hits / samples.on_hits.sum().clamp(min=1)
    terms = {
        "geometry": losses.geometry_weight * _mean_robust(samples.skin_correction, weights),
        "planes": losses.planes_weight * avatar.field.roughness(),
        "height": losses.height_weight * mean_height(samples.height, samples.optical_depth),
    }
    if losses.mouth_weight > 0 and len(avatar.skinning.verts_in_mouth):
        terms["mouth"] = losses.mouth_weight * mouth_brightness(avatar)
    if samples.random_offset is not None:
        scale, deformed = config.parts.offset_scale, samples.deformed
        terms["offset"] = losses.offset_weight * ((deformed.offset / scale).square().sum(-1) * weights).sum()
        terms["elsewhere"] = losses.elsewhere_weight * (samples.random_offset / scale).square().sum(-1).mean()
        terms["ambient"] = losses.ambient_weight * (deformed.ambient.square().sum(-1) * weights).sum()
    if config.deformation == "parts" and int(avatar.stage) == SOFT:
        subset = slice(None, None, max(1, len(samples.undeformed) // _NUM_SMOOTHNESS))
        roughness = avatar.assigner.roughness(samples.undeformed[subset], samples.on_hits[subset])
        terms["smoothness"] = losses.smoothness_weight * roughness
    for name in ("torso", "correction"):
        settings = getattr(config, name)
        if settings.enabled and samples.timesteps is not None:
            terms[name] = settings.residual_weight * getattr(avatar, name).residual_loss(samples.timesteps)
    return terms


def _mean_robust(values: Float[Tensor, "points"], weights: Float[Tensor, "points"]) -> Float[Tensor, ""]:
    """Weighted mean of a loss that is quadratic below 1 and linear above."""
    return (F.smooth_l1_loss(values, torch.zeros_like(values), reduction="none") * weights).sum()


def mouth_brightness(avatar: Avatar) -> Float[Tensor, ""]:
    """Mean colour inside the mouth, along the mean view direction of training. Surface that rays reach is left out.

    The points lie between random pairs of vertices of teeth, tongue and the mouth's walls. The avatar must have such
    vertices.
    Random directions would make the field dark everywhere in views that training did not see.
    """
    field, verts = avatar.field, avatar.skinning.verts_in_mouth
    ends = verts[torch.randint(len(verts), (2, _NUM_IN_MOUTH), device=verts.device)]
    points = torch.lerp(ends[0], ends[1], torch.rand(_NUM_IN_MOUTH, 1, device=verts.device))
    directions = F.normalize(F.pad(field.view_mean, (0, 1), value=-1.0), dim=0).expand_as(points)
    ambient = points.new_zeros(len(points), field.num_ambient)
    with autocast_bfloat16(points.device, avatar.config.bfloat16):
        color = field.color(field.features(field.contract(points)), directions, ambient)
    at_surface = avatar.skinning.space.distance_and_clearance(points)[0] < _AT_SURFACE
    seen = at_surface & ~avatar.grid.is_hidden(points)
    return (color * ~seen[:, None]).mean()
