"""A capture with a still head and a moving camera, as some layouts need it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState


@dataclass(frozen=True)
class StillHead:
    """A capture in the coordinate frame of the skull. Root and neck motion become camera motion."""

    frames: tuple[Frame, ...]
    shaped: ShapedHead
    track: HeadState
    T_world_head: Float[np.ndarray, "timesteps 4 4"]
    """Motion of the skull, which the cameras take over."""

    @staticmethod
    def from_capture(capture: Capture, model: HeadModel) -> StillHead:
        shaped = ShapedHead.of(model, capture.identity, capture.static_offset)
        steps = range(0, capture.num_timesteps, 32)
        posed = [shaped.pose(capture.track[slice(t, t + 32)]).T_world_rest[:, Joint.NECK].numpy() for t in steps]
        return StillHead(capture.frames, shaped, capture.track, np.concatenate(posed).astype(np.float64))

    def camera_to_world(self, frame: Frame) -> Float[np.ndarray, "4 4"]:
        """The camera of a frame relative to the still head, OpenGL axes."""
        return np.linalg.inv(self.T_world_head[frame.timestep]) @ frame.camera.T_world_camera

    def verts(self, frame: Frame) -> Float[np.ndarray, "verts 3"]:
        """The surface in a frame with the skull at rest. Neck and shoulders move instead."""
        world = self.shaped.pose(self.track[frame.timestep]).verts.double().numpy()
        T = np.linalg.inv(self.T_world_head[frame.timestep])
        return world @ T[:3, :3].T + T[:3, 3]

    def neutral_verts(self) -> Float[np.ndarray, "verts 3"]:
        """The surface in the rest pose without expression."""
        neutral = HeadState.neutral(self.shaped.model.num_expr)
        return self.shaped.pose(neutral).verts.double().numpy()

    def track_without_turning(self) -> HeadState:
        """The track with expression, jaw and eyes only, for layouts without neck and global motion."""
        zero = torch.zeros_like(self.track.rotation)
        return HeadState(self.track.expression, zero, zero, self.track.jaw, self.track.eyes, zero)
