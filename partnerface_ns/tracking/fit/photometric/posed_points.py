"""Posed surface points of some frames, and the derivatives of their positions in the image.

A residual r depends on the pixel of a point, the pixel on its position X, and the position on the corrections and on
the shape. With a = dr/dX (camera frame), the derivatives are, for a rotation about a joint at J with skinning weight w
(the frame of the joint's parent is P), for the movement, and for a displacement D of the rest surface:

    dr/drotation = w P^T ((X - J) x a),    dr/dmovement = a,    dr/dcoefficient = (R^T a) . D

R is the linear part of the point's blended skinning transform. Movements of the joints by shape and expression, and the
change of the pose correctives, are neglected: they only slow down the convergence slightly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState

_LEFT_EYE, _RIGHT_EYE = 3, 4


@dataclass(frozen=True)
class PosedPoints:
    """Posed points of some frames."""

    head: ShapedHead
    verts: Float[Tensor, "frames points 3"]
    """Positions, metres; the camera is at the origin."""
    linear: Float[Tensor, "frames points 3 3"]
    """Linear parts of the skinning transforms."""
    joints: Float[Tensor, "frames joints 3"]
    face: Float[Tensor, "frames 3"]
    """The face's centre, which rotations of the skull leave in place."""
    parents: Float[Tensor, "frames joints 3 3"]
    """Rotation of each joint's parent; that of the root joint itself for the root."""

    @staticmethod
    def of(head: ShapedHead, states: HeadState, face: Float[Tensor, "3"]) -> PosedPoints:
        """
        Args:
            head: shaped head whose last five points are the joints.
            states: the frames.
            face: the face's centre relative to the neck joint, rest frame, metres.
        """
        posed = head.pose(states)
        T = posed.T_world_rest
        rest = head.verts_rest[-T.shape[1] :]
        joints = torch.einsum("fjab,jb->fja", T[..., :3, :3], rest) + T[..., :3, 3]
        rotation = T[..., :3, :3]
        neck = Joint.NECK
        centre = torch.einsum("fab,b->fa", rotation[:, neck], rest[neck] + face) + T[:, neck, :3, 3]
        parents = rotation[:, [0, 0, neck, neck, neck]]
        linear = posed.skinning(head.model.skinning_weights)[..., :3, :3]
        return PosedPoints(head, posed.verts, linear, joints, centre, parents)

    def normals(self, rest: Float[Tensor, "points 3"], part: slice) -> Float[Tensor, "frames part 3"]:
        """Unit normals of some points."""
        turned = torch.einsum("fpab,pb->fpa", self.linear[:, part], rest[part])
        return torch.nn.functional.normalize(turned, dim=-1)

    def derivatives(
        self, index: Int[Tensor, "frames rows"], a: Float[Tensor, "frames rows 3"], with_shape: bool
    ) -> Float[Tensor, "frames rows unknowns"]:
        """Derivatives of residuals with respect to the corrections and, if asked, the shape coefficients.

        Args:
            index: the point of each residual.
            a: derivative of each residual with respect to the point's position.
            with_shape: whether to append the shape coefficients.
        """
        model = self.head.model
        frames = torch.arange(len(index), device=index.device)[:, None]
        X, weights = self.verts[frames, index], model.skinning_weights[index]

        def about(joint: int, parts: list[int]) -> Float[Tensor, "frames rows 3"]:
            arm = X - self.joints[:, joint, None]
            moment = weights[..., parts].sum(-1, keepdim=True) * torch.linalg.cross(arm, a, dim=-1)
            if joint == Joint.NECK:
                arm = (self.face - self.joints[:, joint])[:, None].expand_as(a)
                moment = moment - torch.linalg.cross(arm, a, dim=-1)
            return moment @ self.parents[:, joint]

        eyes = sum(about(eye, [eye])[..., :2] for eye in (_LEFT_EYE, _RIGHT_EYE))
        pose = [about(Joint.NECK, [1, 2, 3, 4]), a, about(Joint.JAW, [Joint.JAW]), eyes]
        b = torch.einsum("frab,fra->frb", self.linear[frames, index], a)
        directions = [model.expression_dirs] + [model.identity_dirs] * with_shape
        displaced = [_dot(b, index, values) for values in directions]
        return torch.cat([*pose, *displaced], -1)


def _dot(
    b: Float[Tensor, "frames rows 3"], index: Int[Tensor, "frames rows"], directions: Float[Tensor, "points 3 n"]
) -> Float[Tensor, "frames rows n"]:
    """Products with the directions of each row's point; rows that are the same in all frames are not copied."""
    if len(index) == 1 or (index == index[:1]).all():
        return torch.einsum("frc,rcn->frn", b, directions[index[0]])
    return torch.einsum("frc,frcn->frn", b, directions[index])


def pixel_derivatives(points: Float[Tensor, "*batch 3"], focal: float) -> Float[Tensor, "*batch 2 3"]:
    """Derivatives of the pixel (x right, y down) of a point with respect to its position."""
    x, y, z = points.unbind(-1)
    scale = focal / -z
    zero = torch.zeros_like(scale)
    return torch.stack([scale, zero, scale * x / -z, zero, -scale, -scale * y / -z], -1).unflatten(-1, (2, 3))
