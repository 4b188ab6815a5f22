"""What tracking missed: ears and crown that do not turn as the tracked head does.

A tracker fits landmarks, and those lie on the front of the face. Where its pitch is wrong, jaw, expression and
translation make up for it there, and what lies behind is left where it is not: in real captures ears and crown are off
by a centimetre in some poses. So the canonical place c of what the skull carries is corrected by a learned motion E(t),
not at all at the face and fully from the ears on:

    c <- c + s(|c - m|) (E(t) c - c),   s smooth from 0 at `inner` to 1 at `outer`,   m the face's middle.

Poses that were never trained on are corrected by what training showed of others. The method's paper does not have it;
it is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import move_points
from partnerface_ns.geometry.rows import run_lengths
from partnerface_ns.warp.learned_motion import LearnedMotion

_POSE_UNIT = 0.1
"""Radians and metres of a head's pose that count as one: what hardly moved in training predicts hardly anything."""


@dataclass
class TrackingCorrectionConfig:
    """What tracking missed behind the face."""

    enabled: bool = True
    """Whether the tracked head is corrected behind the face."""
    inner: float = 0.06
    """Metres from the face's middle up to which tracking is trusted; eyes and lips are nearer."""
    outer: float = 0.12
    """Metres from there on which the correction is full, about the distance of the ears."""
    residual_weight: float = 1e-2
    """Weight of the mean squared per-frame residual: larger trusts the prediction from the head's pose more."""


class TrackingCorrection(LearnedMotion):
    """The correction, learned for training frames and predicted for all others."""

    def __init__(
        self, config: TrackingCorrectionConfig, states: HeadState, middle: Float[Tensor, "3"], num_timesteps: int
    ) -> None:
        """
        Args:
            config: where it acts.
            states: head states of training, batch axes (timesteps of training,).
            middle: the face's middle in the canonical frame, metres.
            num_timesteps: size of the training capture's track; residuals are looked up by its timesteps.
        """
        super().__init__(states, middle, num_timesteps, scale=_POSE_UNIT)
        self.config = config

    def correct(
        self,
        points: Float[Tensor, "points 3"],
        frame: Int[Tensor, "points"],
        torso: Float[Tensor, "points"],
        T: Float[Tensor, "frames 4 4"],
        fixed: bool = False,
    ) -> Float[Tensor, "points 3"]:
        """Corrected canonical places, metres.

        Args:
            points: where inverse skinning puts them, canonical frame, metres.
            frame: index into `T` of each point, ascending.
            torso: share in [0, 1] in which each point moves with the torso, which is not corrected.
            T: the motion of each frame.
            fixed: whether shapes are fixed (`geometry/rows.py`).
        """
        runs = points.split(run_lengths(frame, len(T), fixed))
        moved = torch.cat([move_points(E, run) for run, E in zip(runs, T, strict=True)])
        distance = (points - self.center).norm(dim=-1)
        way = ((distance - self.config.inner) / (self.config.outer - self.config.inner)).clamp(0, 1)
        share = way * way * (3 - 2 * way) * (1 - torso)
        return torch.lerp(points, moved, share[:, None])
