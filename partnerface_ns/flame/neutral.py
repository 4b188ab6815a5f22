"""The neutral state of a person, measured from a track: a frequent and calm face at the usual head pose.

Zero coefficients do not give a neutral face, because a tracker explains part of a person's resting face by expression.
Frequency alone is not enough either, because the most frequent face can be a held smile.
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
"""Share of a track's frames that count as neighbours of a frame."""
_CALM = 0.5
"""Weight of a face's distance from zero coefficients relative to the distance from its neighbours."""
_MAX_FRAMES = 1500
"""Most frames that are compared; a longer track is subsampled evenly."""
_JAW_ARM, _HEAD_ARM = 0.08, 0.1
"""Metres that the chin moves per radian of the jaw, and the face per radian of the head."""


def measure_neutral(track: HeadState, model: HeadModel) -> HeadState:
    """The neutral state of a track, batch axes ().

    Expression and jaw are means over the neighbours of one frame. This frame minimises the distance to its neighbours
    plus the weighted distance from zero coefficients, both as motion of the face. Eyes are the median over the track.
    The head pose is that of the central frame.

    Args:
        track: head states, batch axes (timesteps,), at least one.
        model: the head model of the coefficients.
    """
    sampled = track[:: max(1, -(-len(track) // _MAX_FRAMES))]
    face = torch.cat([sampled.expression * direction_sizes(model), sampled.jaw * _JAW_ARM], -1)
    count = max(1, round(_NEIGHBORS * len(sampled)))
    nearest = torch.cdist(face, face).topk(count, largest=False)
    members = nearest.indices[(nearest.values[:, -1] + _CALM * face.norm(dim=1)).argmin()]
    turn = rotation_from_axis_angle(sampled.rotation) @ rotation_from_axis_angle(sampled.neck)
    return replace(
        sampled[central_frame(turn, sampled.translation)],
        expression=sampled.expression[members].mean(0),
        jaw=sampled.jaw[members].mean(0),
        eyes=sampled.eyes.median(0).values,
    )


def central_frame(rotation: Float[Tensor, "timesteps 3 3"], position: Float[Tensor, "timesteps 3"]) -> int:
    """Index of the frame whose head pose is on average nearest to all others; a metre counts as ten radians."""
    pose = torch.cat([rotation.flatten(1) * _HEAD_ARM, position], -1)
    return int(torch.cdist(pose, pose).mean(1).argmin())


def direction_sizes(model: HeadModel) -> Float[Tensor, "expr"]:
    """Motion of the face per unit of each expression direction: root mean square over its vertices, metres."""
    face = model.regions["face"]
    return ((face[:, None] * model.expression_dirs.square().sum(1)).sum(0) / face.sum().clamp(min=1e-6)).sqrt()
