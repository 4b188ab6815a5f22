"""The person that an avatar is made for, as far as known before training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.capture.capture import Capture
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.state import HeadState


@dataclass(frozen=True)
class AvatarInit:
    """What an avatar needs to know of a person before training."""

    model: HeadModel
    identity: Float[Tensor, "identity"]
    static_offset: Float[Tensor, "verts 3"]
    """Personal offsets in the rest frame, metres; zero where the tracker gives none."""
    states: HeadState
    """Head states that training may see, batch axes (timesteps,)."""
    num_timesteps: int
    """Length of the whole track, which the torso's residuals are indexed by."""
    background: tuple[float, float, float]
    """Colour behind the person, in [0, 1]."""

    @staticmethod
    def of(capture: Capture, model: HeadModel, background: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> AvatarInit:
        """The person of a capture; `background` counts where the capture's images do not bring their own."""
        offset = capture.static_offset
        return AvatarInit(
            model=model,
            identity=capture.identity,
            static_offset=torch.zeros_like(model.template) if offset is None else offset,
            states=capture.states_of("train") if capture.splits["train"] else capture.track,
            num_timesteps=capture.num_timesteps,
            background=capture.background or background,
        )
