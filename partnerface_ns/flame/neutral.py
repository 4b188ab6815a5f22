"""A person's neutral face, measured: a calm face that a track returns to often, where its head is most of the time.

Zero coefficients are not it: a tracker explains part of everyone's resting face by expression. The most frequent face
alone is not it either: it may be a smile that was held.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rotation_from_axis_angle

_NEIGHBORS = 0.1
"""Share of a track's moments that make up its most frequent face."""
_CALM = 0.5
"""How much a face's distance from zero coefficients counts against its distance from its neighbours."""
_MOST = 1500
"""WarpFrames that are compared at most; a longer track is thinned out evenly."""
_JAW_ARM, _HEAD_ARM = 0.08, 0.1
"""Metres that the chin moves for a radian of the jaw, and the face for a radian of the head."""


def measure_neutral(track: HeadState, model: HeadModel) -> HeadState:
    """The neutral state of a track, batch axes ().

    Expression and jaw are the mean of a moment's neighbours: of the moment whose neighbours are near and whose face is
    calm, both measured by how far they move the face. Eyes are the median; the head is where it is in the moment
    that is nearest to all others.

    Args:
        track: head states, batch axes (timesteps,), at least one.
        model: the head model of the coefficients.
    """
    thin = track[:: max(1, -(-len(track) // _MOST))]
    face = torch.cat([thin.expression * direction_sizes(model), thin.jaw * _JAW_ARM], -1)
    count = max(1, round(_NEIGHBORS * len(thin)))
    nearest = torch.cdist(face, face).topk(count, largest=False)
    members = nearest.indices[(nearest.values[:, -1] + _CALM * face.norm(dim=1)).argmin()]
    turn = rotation_from_axis_angle(thin.rotation) @ rotation_from_axis_angle(thin.neck)
    return replace(
        thin[central_frame(turn, thin.translation)],
        expression=thin.expression[members].mean(0),
        jaw=thin.jaw[members].mean(0),
        eyes=thin.eyes.median(0).values,
    )


def central_frame(rotation: Float[Tensor, "timesteps 3 3"], position: Float[Tensor, "timesteps 3"]) -> int:
    """Index of the moment whose head is nearest to where it is in all others; a metre counts as ten radians."""
    place = torch.cat([rotation.flatten(1) * _HEAD_ARM, position], -1)
    return int(torch.cdist(place, place).mean(1).argmin())


def direction_sizes(model: HeadModel) -> Float[Tensor, "expr"]:
    """How far a unit of each expression direction moves the face: root mean square over its vertices, metres."""
    face = model.regions["face"]
    return ((face[:, None] * model.expression_dirs.square().sum(1)).sum(0) / face.sum().clamp(min=1e-6)).sqrt()
