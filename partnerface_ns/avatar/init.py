"""What an avatar is built from: the person, the training track, and the reach of hair and clothes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.avatar.reach import measure_reach
from partnerface_ns.capture.capture import Capture, Frame
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
    reach: Float[Tensor, "3"] | None = None
    """Largest distances in metres at which density may be: from the face, from the rest of the head and the neck, and
    from the torso (`measure_reach`). NaN is unknown; None knows none of the three."""

    @staticmethod
    def of(
        capture: Capture,
        model: HeadModel,
        background: tuple[float, float, float] = (1.0, 1.0, 1.0),
        frames: Sequence[Frame] | None = None,
    ) -> AvatarInit:
        """The arguments that follow from a capture. Up to 16 of its images are read to measure the reach.

        Args:
            capture: gives the person and the track.
            model: the capture's head model.
            background: background colour in [0, 1], unless the capture has its own.
            frames: frames to train on; None takes the training split.
        """
        offset = capture.static_offset
        if frames is None:
            frames = capture.frames_of("train") or capture.frames
        timesteps = torch.tensor(sorted({frame.timestep for frame in frames}), dtype=torch.long)
        return AvatarInit(
            model=model,
            identity=capture.identity,
            static_offset=torch.zeros_like(model.template) if offset is None else offset,
            states=capture.track[timesteps],
            num_timesteps=capture.num_timesteps,
            background=capture.background or background,
            reach=measure_reach(capture, model, frames),
        )
