"""Shaping and posing of the head model.

Each stage is a type: `HeadModel` -> `ShapedHead` (with identity) -> `PosedHead` (with expression and pose). The maths
comes from smplx: `blend_shapes`, `vertices2joints`, `batch_rigid_transform`. Its `lbs()` is not used because it hides
the joint transforms that inverse skinning needs. Joints are regressed from the shaped vertices with expression, as in
FLAME and its trackers. Everything is differentiable with respect to the head state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from smplx import lbs
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.joints import JOINT_PARENTS, Joint
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rigid_about, rotation_from_axis_angle

_smplx: Any = lbs
"""Without types, because smplx annotates tensors with a `Tensor` class of its own."""


@dataclass(frozen=True)
class PosedHead:
    """The posed surface of one or many frames, in the world frame."""

    verts: Float[Tensor, "*batch verts 3"]
    """Posed vertices, world frame, metres."""
    offsets: Float[Tensor, "*batch verts 3"]
    """Displacement by expression and pose correctives in the rest frame, before skinning, metres."""
    T_world_rest: Float[Tensor, "*batch joints 4 4"]
    """Rigid transform of each joint from the rest frame to the world, translation included."""

    def skinning(self, weights: Float[Tensor, "verts joints"]) -> Float[Tensor, "*batch verts 4 4"]:
        """Blended transform of each vertex from the displaced rest surface to the world.

        The linear part need not be a rotation.
        """
        return _blend(weights, self.T_world_rest)


@dataclass(frozen=True)
class ShapedHead:
    """A head model with one person's identity applied."""

    model: HeadModel
    verts_rest: Float[Tensor, "verts 3"]
    """Vertices in the rest pose without expression, metres."""

    @staticmethod
    def of(
        model: HeadModel,
        identity: Float[Tensor, "identity"],
        static_offset: Float[Tensor, "verts 3"] | None = None,
    ) -> ShapedHead:
        """Apply identity coefficients and, if given, personal vertex offsets (metres)."""
        verts = model.template + _smplx.blend_shapes(identity[None], model.identity_dirs)[0]
        return ShapedHead(model, verts if static_offset is None else verts + static_offset)

    def pose(self, state: HeadState) -> PosedHead:
        """Pose the head in every frame of `state` (any leading axes)."""
        batch = state.batch_shape
        expression = state.expression.reshape(-1, self.model.num_expr)
        full_pose, translation = state.full_pose.reshape(-1, 15), state.translation.reshape(-1, 3)
        num = expression.shape[0]

        expression_offsets = _smplx.blend_shapes(expression, self.model.expression_dirs)
        joints = _smplx.vertices2joints(self.model.joint_regressor, self.verts_rest + expression_offsets)
        rotations = rotation_from_axis_angle(full_pose.reshape(num, -1, 3))
        identity3 = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        features = (rotations[:, 1:] - identity3).reshape(num, -1)
        offsets = expression_offsets + (features @ self.model.pose_dirs).reshape(num, -1, 3)

        parents = torch.tensor(JOINT_PARENTS, device=joints.device)
        _, T_world_rest = _smplx.batch_rigid_transform(rotations, joints, parents, dtype=joints.dtype)
        shift = torch.zeros_like(T_world_rest)
        shift[..., :3, 3] = translation[:, None]
        T_world_rest = T_world_rest + shift

        verts = _skin(self.model.skinning_weights, T_world_rest, self.verts_rest + offsets)
        return PosedHead(
            verts.reshape(*batch, -1, 3), offsets.reshape(*batch, -1, 3), T_world_rest.reshape(*batch, -1, 4, 4)
        )

    def surface(self, state: HeadState) -> Float[Tensor, "*batch verts 3"]:
        """Posed vertices, world frame, metres. The shoulders follow the state's torso if it is known.

        The torso takes the place of the root joint in skinning, as it does in the avatar.
        """
        posed = self.pose(state)
        if state.torso is None:
            return posed.verts
        root = (self.model.joint_regressor @ self.verts_rest)[Joint.ROOT]
        change = rigid_about(root, *state.torso.split(3, -1)) - posed.T_world_rest[..., Joint.ROOT, :, :]
        rest = self.verts_rest + posed.offsets
        moved = torch.einsum("...ab,...vb->...va", change[..., :3, :3], rest) + change[..., None, :3, 3]
        return posed.verts + self.model.skinning_weights[:, Joint.ROOT, None] * moved


def _blend(
    weights: Float[Tensor, "verts joints"], T_joints: Float[Tensor, "*batch joints 4 4"]
) -> Float[Tensor, "*batch verts 4 4"]:
    """Blend the joint transforms for each vertex (linear blend skinning)."""
    return torch.einsum("vj,...jab->...vab", weights, T_joints)


def _skin(
    weights: Float[Tensor, "verts joints"], T: Float[Tensor, "frames joints 4 4"], rest: Float[Tensor, "frames verts 3"]
) -> Float[Tensor, "frames verts 3"]:
    """Skin rest vertices. With vertices on the last axis the blending is one matrix product."""
    T_verts = (T[:, :, :3].flatten(2).mT @ weights.mT).unflatten(1, (3, 4))
    return ((T_verts[:, :, :3] * rest.mT[:, None]).sum(2) + T_verts[:, :, 3]).mT
