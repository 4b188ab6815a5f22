"""What an avatar is built from: the person and the training track."""

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
    """Arguments of an avatar that come from the person and the capture."""

    model: HeadModel
    """The head model."""
    identity: Float[Tensor, "identity"]
    """Identity coefficients of the head model."""
    static_offset: Float[Tensor, "verts 3"]
    """Personal vertex offsets in the rest frame, metres; zero if the tracker gives none."""
    states: HeadState
    """Head states of the training frames, batch axes (timesteps,)."""
    num_timesteps: int
    """Number of timesteps of the whole capture. Torso and tracking correction have a residual for each."""
    background: tuple[float, float, float]
    """Background colour in [0, 1]."""

    @staticmethod
    def of(capture: Capture, model: HeadModel, background: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> AvatarInit:
        """The arguments that follow from a capture.

        Args:
            capture: gives the person and the track.
            model: the capture's head model.
            background: background colour in [0, 1], unless the capture has its own.
        """
        offset = capture.static_offset
        return AvatarInit(
            model=model,
            identity=capture.identity,
            static_offset=torch.zeros_like(model.template) if offset is None else offset,
            states=capture.states_of("train") if capture.splits["train"] else capture.track,
            num_timesteps=capture.num_timesteps,
            background=capture.background or background,
        )
