"""Small rigid motions that are learned with the avatar where the capture does not state them.

The twist of timestep t is

    W p(t) + q_t

with p(t) the normalised and limited pose (rotation, neck rotation and translation of the head), W a learned linear
prediction and q_t a learned residual. Only training frames have a residual; the motion of all other frames is predicted
from the pose.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rigid_about

_FEATURE_LIMIT = 2.5
"""Normalised pose, in absolute value, beyond which the prediction no longer changes."""
_TRANSLATION_SCALE = 0.1
"""Metres of translation in one unit of a twist; rotations are in radians."""


class LearnedMotion(nn.Module):
    """A rigid motion about a fixed point for each frame; the identity before training."""

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
            num_timesteps: number of timesteps of the training capture, each of which has a residual.
            scale: divisor of the pose, in radians and metres; None takes the standard deviations of training.
        """
        super().__init__()
        features = _features(states)
        std = features.std(0, correction=0).clamp(min=1e-3)
        self.register_buffer("center", center.clone())
        self.register_buffer("feature_mean", features.mean(0))
        self.register_buffer("feature_scale", std if scale is None else torch.full_like(std, scale))
        self.prediction = nn.Linear(features.shape[-1], 6, bias=False)
        nn.init.zeros_(self.prediction.weight)
        self.residual = nn.Parameter(torch.zeros(num_timesteps, 6))

    def forward(self, states: HeadState, timesteps: Int[Tensor, "frames"] | None) -> Float[Tensor, "frames 4 4"]:
        """The motion of each frame.

        Args:
            states: head states, batch axes (frames,).
            timesteps: timesteps of the training capture, whose residuals are added; None for other frames.
        """
        twist = self.prediction(self.features(states))
        if timesteps is not None:
            twist = twist + self.residual[timesteps]
        return self.motion(twist)

    def features(self, states: HeadState) -> Float[Tensor, "frames features"]:
        """Normalised and limited poses p."""
        features = (_features(states) - self.feature_mean) / self.feature_scale
        return features.clamp(-_FEATURE_LIMIT, _FEATURE_LIMIT)

    def motion(self, twist: Float[Tensor, "frames 6"]) -> Float[Tensor, "frames 4 4"]:
        """Transforms of twists: rotation about the fixed point in radians, then translation in tenths of a metre."""
        return rigid_about(self.center, twist[:, :3], _TRANSLATION_SCALE * twist[:, 3:])

    def twists(self, T: Float[Tensor, "frames 4 4"]) -> Float[Tensor, "frames 6"]:
        """Twists of transforms: the inverse of `motion`. Not differentiable."""
        moved = torch.einsum("fab,b->fa", T[:, :3, :3], self.center) + T[:, :3, 3] - self.center
        turns = torch.from_numpy(Rotation.from_matrix(T[:, :3, :3].cpu().numpy()).as_rotvec()).to(T)
        return torch.cat([turns, moved / _TRANSLATION_SCALE], -1)

    def residual_loss(self, timesteps: Int[Tensor, "frames"]) -> Float[Tensor, ""]:
        """Mean squared residual of timesteps, in radians and tenths of a metre."""
        return self.residual[timesteps].square().mean()

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        # The number of residuals is that of the training capture, not of the capture that this module was built on.
        stored = state_dict.get(prefix + "residual")
        if stored is not None and stored.shape != self.residual.shape:
            self.residual = nn.Parameter(torch.zeros_like(stored, device=self.residual.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _features(states: HeadState) -> Float[Tensor, "frames 9"]:
    return torch.cat([states.rotation, states.neck, states.translation], -1)
