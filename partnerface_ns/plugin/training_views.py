"""Directions from which training saw the head, and how far from them a page looks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.capture.capture import Capture
from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState

Vector = Float[Tensor, "3"]
FAR = 30.0
"""Degrees from the nearest training view from which a page warns."""
_MOST = 100
"""Training views that are compared; a longer capture's are taken evenly."""
"""FLAME's joint that turns the skull."""


class TrainingViews:
    """Directions from the face to the training cameras, in the skull's frame."""

    def __init__(self, capture: Capture, head: ShapedHead) -> None:
        """
        Args:
            capture: gives training frames and their cameras.
            head: the person's, on the CPU.
        """
        frames = capture.frames_of("train") or capture.frames
        frames = [frames[i] for i in torch.linspace(0, len(frames) - 1, min(_MOST, len(frames))).long()]
        states = capture.track[torch.tensor([frame.timestep for frame in frames])]
        places = torch.stack([torch.from_numpy(frame.camera.T_world_camera[:3, 3]).float() for frame in frames])
        self._head = head
        self._face = head.verts_rest[head.model.regions["face"] > 0.5].mean(0)
        self._directions = self._seen_from(places, states)

    def degrees_away(self, place: Float[Tensor, "3"], state: HeadState) -> float:
        """Angle between a view and the nearest of training.

        Args:
            place: of the camera, world frame, metres.
            state: of the head, batch axes (1,), on the CPU.
        """
        cosine = float((self._directions @ self._seen_from(place[None], state)[0]).max())
        return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))

    def front(
        self, distance: float, state: HeadState
    ) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"], Float[Tensor, "3"]]:
        """Place of a camera straight before the face, the face, and the head's upward direction, world frame."""
        R, T = self._skull(state)
        face = R[0] @ self._face + T[0]
        return face + distance * R[0, :, 2], face, R[0, :, 1]

    def _seen_from(self, places: Float[Tensor, "frames 3"], states: HeadState) -> Float[Tensor, "frames 3"]:
        R, T = self._skull(states)
        return F.normalize(torch.einsum("fba,fb->fa", R, places - T) - self._face, dim=-1)

    def _skull(self, states: HeadState) -> tuple[Float[Tensor, "frames 3 3"], Float[Tensor, "frames 3"]]:
        """The skull's rotation and translation, world from rest."""
        T_world_skull = self._head.pose(states).T_world_rest[:, Joint.NECK]
        return T_world_skull[:, :3, :3], T_world_skull[:, :3, 3]
