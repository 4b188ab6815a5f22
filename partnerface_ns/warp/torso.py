"""The torso: one more bone, because shoulders do not follow the head model.

FLAME's root joint carries the shoulders rigidly with the head's global rotation. Here vertices follow a torso bone
instead, in the share that they belong to the root joint. The bone's pose at timestep t is

    T_world_torso(t) = T_mean . exp(W f(t) + r_t)

with T_mean the mean root transform of training, f(t) the head's normalised rotation, neck rotation and
translation, W a learned linear prediction and r_t a learned residual of training frames. Frames that were not trained
on have no residual: their torso is predicted from the head's pose. The method's paper leaves the torso out; this part
is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rigid, rotation_from_axis_angle

_FEATURE_LIMIT = 2.5
"""Standard deviations at which a head pose stops moving the predicted torso further."""
_TRANSLATION_SCALE = 0.1
"""Metres of translation that weigh as much as a radian of rotation in the learned pose."""


@dataclass
class TorsoConfig:
    """The torso's own motion."""

    enabled: bool = True
    """Whether the torso moves by a bone of its own; if not it follows the head model's root joint."""
    residual_weight: float = 1e-3
    """Weight of the mean squared per-frame residual: larger trusts the prediction from the head's pose more."""


class TorsoMotion(nn.Module):
    """Pose of the torso bone, learned for training frames and predicted for all others."""

    mean_rotation: Tensor
    mean_translation: Tensor
    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, states: HeadState, root: Float[Tensor, "3"], num_timesteps: int) -> None:
        """
        Args:
            states: head states of training, batch axes (timesteps of training,).
            root: the root joint in the rest frame; the mean transform rotates about it.
            num_timesteps: size of the training capture's track; residuals are looked up by its timesteps.
        """
        super().__init__()
        features = _features(states)
        self.register_buffer("root", root.clone())
        self.register_buffer("mean_rotation", states.rotation.mean(0))
        self.register_buffer("mean_translation", states.translation.mean(0))
        self.register_buffer("feature_mean", features.mean(0))
        self.register_buffer("feature_std", features.std(0, correction=0).clamp(min=1e-3))
        self.prediction = nn.Linear(features.shape[-1], 6, bias=False)
        nn.init.zeros_(self.prediction.weight)
        self.residual = nn.Parameter(torch.zeros(num_timesteps, 6))

    def forward(self, states: HeadState, timesteps: Int[Tensor, "frames"] | None) -> Float[Tensor, "frames 4 4"]:
        """The torso bone's transform, world from rest, for each frame.

        Args:
            states: head states, batch axes (frames,).
            timesteps: timesteps of the training capture, to add their residuals; None for frames not trained on.
        """
        features = ((_features(states) - self.feature_mean) / self.feature_std).clamp(-_FEATURE_LIMIT, _FEATURE_LIMIT)
        twist = self.prediction(features)
        if timesteps is not None:
            twist = twist + self.residual[timesteps]
        mean = rotation_from_axis_angle(self.mean_rotation)
        rotation = mean @ rotation_from_axis_angle(twist[:, :3])
        translation = self.mean_translation + self.root + _TRANSLATION_SCALE * twist[:, 3:]
        return rigid(rotation, translation - torch.einsum("fab,b->fa", rotation, self.root))

    def residual_loss(self, timesteps: Int[Tensor, "frames"]) -> Float[Tensor, ""]:
        """Mean squared residual of the given frames (radians and tenths of metres)."""
        return self.residual[timesteps].square().mean()

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        # The residuals belong to the training capture; a model built on another capture takes their number.
        stored = state_dict.get(prefix + "residual")
        if stored is not None and stored.shape != self.residual.shape:
            self.residual = nn.Parameter(torch.zeros_like(stored, device=self.residual.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _features(states: HeadState) -> Float[Tensor, "frames 9"]:
    return torch.cat([states.rotation, states.neck, states.translation], -1)
