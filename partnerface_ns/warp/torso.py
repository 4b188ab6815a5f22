"""The torso bone, which replaces the head model's root joint.

FLAME's root joint moves the shoulders rigidly with the head's global rotation, which real shoulders do not follow. The
skinning weights of the root joint apply to a torso bone instead. Its pose at timestep t is

    T_world_torso(t) = T_mean . M(t)

with T_mean the mean root transform of training and M(t) a learned motion. The method's paper has no torso bone; it
is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rigid, rotation_from_axis_angle
from partnerface_ns.warp.learned_motion import LearnedMotion


@dataclass
class TorsoConfig:
    """Motion of the torso bone."""

    enabled: bool = True
    """Whether the torso has its own bone; otherwise it follows the head model's root joint."""
    residual_weight: float = 1e-3
    """Weight of the mean squared per-frame residual; a larger weight relies more on the prediction from the pose."""


class TorsoMotion(LearnedMotion):
    """Pose of the torso bone, learned for training frames and predicted for others."""

    T_mean: Tensor

    def __init__(self, states: HeadState, root: Float[Tensor, "3"], num_timesteps: int) -> None:
        """
        Args:
            states: head states of training, batch axes (timesteps of training,).
            root: the root joint in the rest frame; the mean transform rotates about it.
            num_timesteps: number of timesteps of the training capture, each of which has a residual.
        """
        super().__init__(states, root, num_timesteps)
        rotation = rotation_from_axis_angle(states.rotation.mean(0))
        self.register_buffer("T_mean", rigid(rotation, root + states.translation.mean(0) - rotation @ root))

    def forward(self, states: HeadState, timesteps: Int[Tensor, "frames"] | None) -> Float[Tensor, "frames 4 4"]:
        """Transform of the torso bone, world from rest, for each frame; arguments as for `LearnedMotion`."""
        return self.T_mean @ super().forward(states, timesteps)
