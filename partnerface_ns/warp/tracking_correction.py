"""Tracking correction: a learned rigid motion of the head behind the face.

A tracker fits landmarks, which lie on the front of the face. If its pitch is wrong, jaw, expression and translation
compensate for the error there, but not behind the face. In real captures ears and crown are off by a centimetre in some
poses. A learned motion M(t) therefore corrects canonical points c that move with the skull. The share b of the
correction grows from the face to the ears:

    c <- c + b(|c - m|) (M(t) c - c),   b smooth from 0 at `inner` to 1 at `outer`,   m the face's centre.

Frames that training did not see are corrected by the prediction from their pose (`learned_motion.py`). The method's
paper has no such correction; it is our choice.
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
"""Divisor of the pose in radians and metres. It is fixed, to keep predictions small where poses hardly varied."""


@dataclass
class TrackingCorrectionConfig:
    """Reach and weight of the tracking correction."""

    enabled: bool = True
    """Whether the tracked head is corrected behind the face."""
    inner: float = 0.06
    """Distance in metres from the face's centre up to which nothing is corrected; eyes and lips are nearer."""
    outer: float = 0.12
    """Distance in metres from the face's centre beyond which the correction is full, about that of the ears."""
    residual_weight: float = 1e-2
    """Weight of the mean squared per-frame residual; a larger weight relies more on the prediction from the pose."""


class TrackingCorrection(LearnedMotion):
    """Motion of the head behind the face, learned for training frames and predicted for others."""

    def __init__(
        self, config: TrackingCorrectionConfig, states: HeadState, center: Float[Tensor, "3"], num_timesteps: int
    ) -> None:
        """
        Args:
            config: reach of the correction.
            states: head states of training, batch axes (timesteps of training,).
            center: the face's centre in the canonical frame, metres.
            num_timesteps: number of timesteps of the training capture, each of which has a residual.
        """
        super().__init__(states, center, num_timesteps, scale=_POSE_UNIT)
        self.config = config

    def correct(
        self,
        points: Float[Tensor, "points 3"],
        frame: Int[Tensor, "points"],
        torso: Float[Tensor, "points"],
        T: Float[Tensor, "frames 4 4"],
        fixed: bool = False,
    ) -> Float[Tensor, "points 3"]:
        """Corrected canonical points, metres.

        Args:
            points: from inverse skinning, canonical frame, metres.
            frame: index into `T` of each point, ascending.
            torso: share in [0, 1] to which each point moves with the torso, which is not corrected.
            T: the motion of each frame.
            fixed: whether shapes are fixed (`geometry/rows.py`).
        """
        runs = points.split(run_lengths(frame, len(T), fixed))
        moved = torch.cat([move_points(M, run) for run, M in zip(runs, T, strict=True)])
        distance = (points - self.center).norm(dim=-1)
        ramp = ((distance - self.config.inner) / (self.config.outer - self.config.inner)).clamp(0, 1)
        share = ramp * ramp * (3 - 2 * ramp) * (1 - torso)
        return torch.lerp(points, moved, share[:, None])
