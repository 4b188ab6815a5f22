"""A motion: head states at a constant frame rate, with the cameras, images and sound of its source.

`load.py` reads motions from files and folders; `capture_motion.py` takes them from captures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from partnerface_ns.capture.capture import Frame
from partnerface_ns.driving.builtin_motions import BUILTIN_MOTIONS, BuiltinMotionName
from partnerface_ns.driving.rig import Rig
from partnerface_ns.driving.skulls import Skulls
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera

DEFAULT_FPS = 25.0
"""Frames per second where neither the source nor the user states a rate."""


@dataclass(frozen=True)
class Motion:
    """A moving head, with one entry per frame."""

    states: HeadState
    """Batch axes (timesteps,), coefficients of the avatar's head model."""
    neutral: HeadState
    """The resting face of the source's person, batch axes ()."""
    fps: float
    """Frames per second."""
    skulls: Skulls | None = None
    """Skull transforms of the source; None where the source has no head of its own."""
    cameras: tuple[Camera, ...] | None = None
    """The source's camera for each frame, if it has cameras."""
    images: tuple[Frame | None, ...] | None = None
    """The source's image for each frame, if it has images; None for a frame without one."""
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Colour behind the source's person, in [0, 1]."""
    sound: Path | None = None
    """A video whose sound belongs to the motion."""
    notes: tuple[str, ...] = ()
    """Messages for the user about how the source was read."""
    sound_start: float = 0.0
    """Seconds of the sound before the first frame."""

    def __len__(self) -> int:
        return len(self.states)

    def select(self, index: Int[np.ndarray, "frames"]) -> Motion:
        """The motion made of the frames with these indices, in this order."""
        rows = torch.from_numpy(index)
        return replace(
            self,
            states=self.states[rows],
            cameras=self.cameras and tuple(self.cameras[i] for i in index),
            images=self.images and tuple(self.images[i] for i in index),
            skulls=self.skulls and Skulls(self.skulls.moving[rows], self.skulls.neutral),
        )


def builtin_motion(name: BuiltinMotionName, model: HeadModel, fps: float | None = None) -> Motion:
    """A built-in motion for a head model."""
    fps = fps or DEFAULT_FPS
    return motion_of_channels(BUILTIN_MOTIONS[name](fps), fps, Rig(model), Path(name))


def motion_of_channels(
    channels: Mapping[str, Float[np.ndarray, "timesteps"]], fps: float, rig: Rig, source: Path
) -> Motion:
    """The motion of named channels, whose curves are zero at rest.

    Args:
        channels: curves of one length.
        fps: frames per second.
        rig: the rig of the avatar's head model. It fits expressions once, so keep it for repeated calls.
        source: where the channels come from, for error messages.

    Raises:
        InputError: the head model has no such channel.
    """
    return Motion(rig.states(channels, source), HeadState.neutral(rig.model.num_expr), fps)
