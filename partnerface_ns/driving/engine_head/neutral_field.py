"""Density and colour of the avatar around its neutral face, at canonical points."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.avatar.surface_prior import surface_features
from partnerface_ns.common.precision import autocast_bfloat16
from partnerface_ns.driving.player import Player
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import move_points
from partnerface_ns.warp.inverse_skinning import CanonicalPoints


class FieldPoints(NamedTuple):
    """Where the canonical field is read for points of the neutral face."""

    points: Float[Tensor, "points 3"]
    """Canonical frame, after tracking correction and part deformation, metres."""
    ambient: Float[Tensor, "points ambient"]
    """Coordinates of the expression-dependent appearance."""


class NeutralField:
    """The canonical field as the neutral head state shows it."""

    def __init__(self, player: Player) -> None:
        """
        Args:
            player: the avatar. Its camera defines the view direction of each point.
        """
        self._avatar = player.avatar
        self._warp = player.avatar.warp
        self._state = HeadState.stack([player.neutral]).to(player.device)
        self._frames = self._warp.pose_frames(self._state)
        centre = torch.tensor(player.camera.T_world_camera[:3, 3], dtype=torch.float32, device=player.device)
        self.camera: Float[Tensor, "3"] = move_points(self._frames.skinned.T_canonical_skull[0], centre[None])[0]
        """The camera's centre in the canonical frame, metres."""

    @property
    def device(self) -> torch.device:
        return self.camera.device

    @torch.no_grad()
    def locate(self, points: Float[Tensor, "points 3"]) -> FieldPoints:
        """Field points of canonical points, as rendering computes them after inverse skinning."""
        frame = torch.zeros(len(points), dtype=torch.long, device=points.device)
        torso = self._warp.skinning.space.torso_share(points)
        correction, T = self._warp.correction, self._frames.T_correction
        if correction is not None and T is not None:
            points = correction.correct(points, frame, torso, T)
        with autocast_bfloat16(points.device, self._avatar.config.bfloat16):
            deformed = self._warp.deform(CanonicalPoints(points, torso), frame, self._state)
        return FieldPoints(deformed.points.float(), deformed.ambient.float())

    @torch.no_grad()
    def density(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points"]:
        """Density in 1/m at field points."""
        return self._avatar.density(points)

    def distance_to_mesh(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points"]:
        """Signed distance of canonical points to the head model's mesh, metres, negative inside."""
        return self._warp.skinning.space.distance_and_clearance(points)[0]

    @torch.no_grad()
    def color(self, located: FieldPoints, canonical: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Colour in [0, 1] of field points, as the avatar's camera sees them.

        Args:
            located: the field points.
            canonical: their canonical points, which define the view directions, metres.
        """
        field, config = self._avatar.field, self._avatar.config
        with autocast_bfloat16(canonical.device, config.bfloat16):
            features = surface_features(self._warp.skinning.space, located.points)
            geometry = field.geometry(located.points, *features)
            return field.color(geometry.features, F.normalize(canonical - self.camera, dim=-1), located.ambient)
