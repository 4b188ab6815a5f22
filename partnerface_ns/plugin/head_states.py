"""Selection of the head state that an image shows.

The camera of an image selects the timestep by the first of these that it has:

1. a timestep (training, ns-eval, ns-render dataset);
2. a time in [0, 1] (camera paths, spirals);
3. the index of a training camera (`--camera-idx`).

Without any of them the image shows a neutral face.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Int, UInt8
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from partnerface_ns.capture.capture import Capture
from partnerface_ns.flame.state import HeadState


class ShownHead(NamedTuple):
    """The head of an image."""

    states: HeadState
    """One head state, batch axes (1,)."""
    timesteps: Int[Tensor, "1"] | None = None
    """Its timestep if the avatar was trained on it, which selects the learned residuals of torso and tracking."""


class HeadStates:
    """Head states of a capture's track for images."""

    def __init__(self, capture: Capture, trained_digest: Callable[[], UInt8[Tensor, "8"]]) -> None:
        """
        Args:
            capture: gives the track.
            trained_digest: returns the `digest_track` of the capture that the avatar was trained on.
        """
        self._train_frames, self._track = capture.frames_of("train"), capture.track
        self._trained_digest = trained_digest
        self.digest = digest_track(capture.track)
        self._is_trained = torch.zeros(capture.num_timesteps, dtype=torch.bool)
        self._is_trained[[frame.timestep for frame in self._train_frames]] = True
        first = next(frames for split in ("train", "val", "test") if (frames := capture.frames_of(split)))
        self.first_frame = first[0]
        """First frame of the capture; of training, if there is any."""

    def states(self, timesteps: Int[Tensor, "frames"]) -> HeadState:
        """States of the track on the device of `timesteps`, batch axes (frames,)."""
        if self._track.expression.device != timesteps.device:
            self._track = self._track.to(timesteps.device)
        return self._track[timesteps]

    def residual_timesteps(self, timesteps: Int[Tensor, "frames"]) -> Int[Tensor, "frames"] | None:
        """The timesteps if the avatar was trained on all of them, because only those have learned residuals."""
        same_capture = torch.equal(self._trained_digest().cpu(), self.digest)
        return timesteps if same_capture and bool(self._is_trained[timesteps.cpu()].all()) else None

    def at(self, timestep: int | None, device: torch.device) -> ShownHead:
        """The head at a timestep of the track; None gives the neutral face."""
        if timestep is None:
            return ShownHead(self._neutral(device))
        timesteps = torch.tensor([timestep], device=device)
        return ShownHead(self.states(timesteps), self.residual_timesteps(timesteps))

    def select_timestep(self, camera: Cameras) -> int | None:
        """The timestep that a camera, shape (1,), selects; None for the neutral face."""
        metadata, last = camera.metadata or {}, len(self._track) - 1
        if "timestep" in metadata:
            return int(metadata["timestep"].flatten()[0])
        if camera.times is not None:
            return round(float(camera.times.flatten()[0].clamp(0, 1)) * last)
        if "cam_idx" in metadata and 0 <= metadata["cam_idx"] < len(self._train_frames):
            return self._train_frames[metadata["cam_idx"]].timestep
        return None

    def _neutral(self, device: torch.device) -> HeadState:
        """The rest face with the head pose of the capture's first frame, batch axes (1,)."""
        state = self.states(torch.tensor([self.first_frame.timestep], device=device))
        zero = torch.zeros_like
        return replace(state, expression=zero(state.expression), jaw=zero(state.jaw), eyes=zero(state.eyes))


def digest_track(track: HeadState) -> UInt8[Tensor, "8"]:
    """Eight bytes that distinguish a capture's track from others, independent of its folder."""
    content = torch.cat([track.expression, track.full_pose, track.translation], -1).cpu().numpy().tobytes()
    return torch.tensor(list(hashlib.sha256(content).digest()[:8]), dtype=torch.uint8)
