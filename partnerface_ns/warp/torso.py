"""The torso bone, which replaces the head model's root joint.

FLAME's root joint moves the shoulders rigidly with the head's global rotation, which real shoulders do not follow. The
skinning weights of the root joint apply to a torso bone instead. Its pose at timestep t is

    T_world_torso(t) = T_mean . M(t)

with T_mean the mean root transform of training and M(t) a learned motion. A capture may state the torso's pose. Then
T_mean is its mean over training, and frames with a known pose use it. The prediction of other frames is then a ridge
regression of the known poses, not a learned function. The method's paper has no torso bone; it is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import invert_rigid, rigid_about
from partnerface_ns.warp.learned_motion import LearnedMotion


@dataclass
class TorsoConfig:
    """Motion of the torso bone."""

    enabled: bool = True
    """Whether the torso has its own bone; otherwise it follows the head model's root joint."""
    residual_weight: float = 1e-3
    """Weight of the mean squared per-frame residual; a larger weight relies more on the prediction from the pose."""


_RIDGE = 0.1
"""Penalty on the regression of known torso poses, relative to the variance of the normalised head pose."""


class TorsoMotion(LearnedMotion):
    """Pose of the torso bone: known, learned for training frames, or predicted."""

    T_mean: Tensor

    def __init__(self, states: HeadState, root: Float[Tensor, "3"], num_timesteps: int) -> None:
        """
        Args:
            states: head states of training, batch axes (timesteps of training,).
            root: the root joint in the rest frame; the mean transform rotates about it.
            num_timesteps: number of timesteps of the training capture, each of which has a residual.
        """
        super().__init__(states, root, num_timesteps)
        poses = torch.cat([states.rotation, states.translation], -1) if states.torso is None else states.torso
        self.register_buffer("T_mean", self._transform(poses.mean(0)))
        if states.torso is not None:
            self._fit_prediction(states, states.torso)

    def forward(self, states: HeadState, timesteps: Int[Tensor, "frames"] | None) -> Float[Tensor, "frames 4 4"]:
        """Transform of the torso bone, world from rest, for each frame; arguments as for `LearnedMotion`."""
        if states.torso is not None:
            return self._transform(states.torso)
        return self.T_mean @ super().forward(states, timesteps)

    def _transform(self, poses: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 4 4"]:
        """World from rest, of poses as in `HeadState.torso`."""
        return rigid_about(self.center, poses[..., :3], poses[..., 3:])

    def _fit_prediction(self, states: HeadState, poses: Float[Tensor, "timesteps 6"]) -> None:
        """Predict known poses from the head's pose."""
        features, twists = self.features(states), self.twists(invert_rigid(self.T_mean) @ self._transform(poses))
        penalty = _RIDGE * len(features) * torch.eye(features.shape[1], device=features.device)
        self.prediction.weight.data = torch.linalg.solve(features.mT @ features + penalty, features.mT @ twists).mT
