"""Directions from which training saw the head, and how far a page's view is from them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.capture.capture import Capture
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState

FAR_DEGREES = 30.0
"""Angle to the nearest training view, in degrees, above which a page shows a warning."""
_MAX_VIEWS = 100
"""Training views to compare with. A longer capture is sampled evenly."""


class FrontView(NamedTuple):
    """A view of the face from straight ahead, world frame, metres."""

    position: Float[Tensor, "3"]
    """Camera centre."""
    face: Float[Tensor, "3"]
    """Middle of the face, to look at."""
    up: Float[Tensor, "3"]
    """The head's upward direction."""


class TrainingViews:
    """Directions from the face to the training cameras, in the skull's frame."""

    def __init__(self, capture: Capture, head: ShapedHead) -> None:
        """
        Args:
            capture: gives training frames and their cameras.
            head: the person's head, on the CPU.
        """
        frames = pick_evenly(capture.frames_of("train") or capture.frames, _MAX_VIEWS)
        states = capture.track[torch.tensor([frame.timestep for frame in frames])]
        positions = torch.stack([torch.from_numpy(frame.camera.T_world_camera[:3, 3]).float() for frame in frames])
        self._head = head
        self._face = head.verts_rest[head.model.regions["face"] > 0.5].mean(0)
        self._directions = self._directions_in_skull(positions, states)

    def degrees_from(self, position: Float[Tensor, "3"], state: HeadState) -> float:
        """Angle between a view and the nearest training view, degrees.

        Args:
            position: camera centre, world frame, metres.
            state: head state, batch axes (1,), on the CPU.
        """
        cosine = float((self._directions @ self._directions_in_skull(position[None], state)[0]).max())
        return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))

    def front(self, distance: float, state: HeadState) -> FrontView:
        """The view from straight in front of the face, at a distance in metres; `state` as for `degrees_from`."""
        R, T = self._skull(state)
        face = R[0] @ self._face + T[0]
        return FrontView(face + distance * R[0, :, 2], face, R[0, :, 1])

    def _directions_in_skull(
        self, positions: Float[Tensor, "frames 3"], states: HeadState
    ) -> Float[Tensor, "frames 3"]:
        R, T = self._skull(states)
        return F.normalize(torch.einsum("fba,fb->fa", R, positions - T) - self._face, dim=-1)

    def _skull(self, states: HeadState) -> tuple[Float[Tensor, "frames 3 3"], Float[Tensor, "frames 3"]]:
        """The skull's rotation and translation, world from rest."""
        T_world_skull = self._head.pose(states).T_world_rest[:, Joint.NECK]
        return T_world_skull[:, :3, :3], T_world_skull[:, :3, 3]
