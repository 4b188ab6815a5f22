"""Small rigid motions that tracking does not give, learned with the avatar.

The twist of timestep t is W f(t) + r_t: f(t) are the head's rotation, neck rotation and translation less their means of
training, in units of a scale and at most some units large; W is a learned linear prediction, r_t a learned residual of
training frames. Frames that were not trained on have no residual: their motion is predicted from the head's pose.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rigid, rotation_from_axis_angle

_FEATURE_LIMIT = 2.5
"""Units at which a head pose stops moving the prediction further."""
_TRANSLATION_SCALE = 0.1
"""Metres of translation that weigh as much as a radian of rotation in a twist."""


class LearnedMotion(nn.Module):
    """A rigid motion about a fixed point for each frame, at rest before training."""

    center: Tensor
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(
        self, states: HeadState, center: Float[Tensor, "3"], num_timesteps: int, scale: float | None = None
    ) -> None:
        """
        Args:
            states: head states of training, batch axes (timesteps of training,).
            center: the point about which the motion rotates, metres.
            num_timesteps: size of the training capture's track; residuals are looked up by its timesteps.
            scale: unit of the pose in the prediction, radians and metres; None takes each number's own spread in
                training.
        """
        super().__init__()
        features = _features(states)
        spread = features.std(0, correction=0).clamp(min=1e-3)
        self.register_buffer("center", center.clone())
        self.register_buffer("feature_mean", features.mean(0))
        self.register_buffer("feature_scale", spread if scale is None else torch.full_like(spread, scale))
        self.prediction = nn.Linear(features.shape[-1], 6, bias=False)
        nn.init.zeros_(self.prediction.weight)
        self.residual = nn.Parameter(torch.zeros(num_timesteps, 6))

    def forward(self, states: HeadState, timesteps: Int[Tensor, "frames"] | None) -> Float[Tensor, "frames 4 4"]:
        """The motion of each frame.

        Args:
            states: head states, batch axes (frames,).
            timesteps: timesteps of the training capture, to add their residuals; None for frames not trained on.
        """
        features = (_features(states) - self.feature_mean) / self.feature_scale
        twist = self.prediction(features.clamp(-_FEATURE_LIMIT, _FEATURE_LIMIT))
        if timesteps is not None:
            twist = twist + self.residual[timesteps]
        return self.motion(twist)

    def motion(self, twist: Float[Tensor, "frames 6"]) -> Float[Tensor, "frames 4 4"]:
        """Transforms of twists: rotation about the fixed point (radians), then translation (tenths of metres)."""
        rotation = rotation_from_axis_angle(twist[:, :3])
        moved = self.center + _TRANSLATION_SCALE * twist[:, 3:]
        return rigid(rotation, moved - torch.einsum("fab,b->fa", rotation, self.center))

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
