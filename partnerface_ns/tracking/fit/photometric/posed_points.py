"""Posed surface points of some frames, and the derivatives of their positions in the image.

A residual r depends on the pixel of a point, the pixel on its position X, and the position on the corrections and on
the shape. Let a = dr/dX in the camera frame. A joint at J has the skinning weight w, and its parent the rotation P.
R is the linear part of the point's blended skinning transform, and D a displacement of the rest surface. Then

    dr/drotation = w P^T ((X - J) x a),    dr/dmovement = a,    dr/dcoefficient = (R^T a) . D

Three small effects are neglected and only slow down the convergence slightly. Joints move with shape and expression.
Pose correctives change with the pose. A point between two joints is treated as if each had moved it to its position.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.tracking.fit.landmark_weights import normalize


@dataclass(frozen=True)
class PosedPoints:
    """Posed points of some frames."""

    head: ShapedHead
    verts: Float[Tensor, "frames points 3"]
    """Positions, metres; the camera is at the origin."""
    linear: Float[Tensor, "frames points 3 3"]
    """Linear parts of the skinning transforms."""
    joints: Float[Tensor, "frames joints 3"]
    """Positions of the joints, metres; the camera is at the origin."""
    face: Float[Tensor, "frames 3"]
    """The face's centre, which rotations of the skull leave in place, metres; the camera is at the origin."""
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
        rotation, shift, num, neck = T[..., :3, :3], T[..., :3, 3], T.shape[1], Joint.NECK
        rest = head.verts_rest[-num:]
        moved = torch.einsum("fe,jae->fja", states.expression, head.model.expression_dirs[-num:])
        joints = torch.einsum("fjab,fjb->fja", rotation, rest + moved) + shift
        centre = torch.einsum("fab,b->fa", rotation[:, neck], rest[neck] + face) + shift[:, neck]
        parents = rotation[:, [0, 0, neck, neck, neck]]
        linear = posed.skinning(head.model.skinning_weights)[..., :3, :3]
        return PosedPoints(head, posed.verts, linear, joints, centre, parents)

    def normals(self, rest: Float[Tensor, "points 3"], part: slice) -> Float[Tensor, "frames part 3"]:
        """Unit normals of some points."""
        return normalize((self.linear[:, part] * rest[part, None]).sum(-1))

    def derivatives(
        self, index: slice | Int[Tensor, "frames rows"], a: Float[Tensor, "frames rows 3"], with_shape: bool
    ) -> Float[Tensor, "frames rows unknowns"]:
        """Derivatives of residuals with respect to the corrections and, if asked, the shape coefficients.

        Args:
            index: the point of each residual, in each frame or in all frames.
            a: derivative of each residual with respect to the point's position.
            with_shape: whether to append the shape coefficients.
        """
        model = self.head.model
        if isinstance(index, slice):
            X, linear, equation = self.verts[:, index], self.linear[:, index], "frc,rcn->frn"
        else:
            frames = torch.arange(len(index), device=index.device)[:, None]
            X, linear, equation = self.verts[frames, index], self.linear[frames, index], "frc,frcn->frn"
        weights = model.skinning_weights[index]

        def about(joint: int, weight: Float[Tensor, "*rows"]) -> Float[Tensor, "frames rows 3"]:
            moment = weight[..., None] * _cross(X - self.joints[:, joint, None], a)
            if joint == Joint.NECK:
                moment = moment - _cross((self.face - self.joints[:, joint])[:, None], a)
            return moment @ self.parents[:, joint]

        eyes = sum(about(eye, weights[..., eye])[..., :2] for eye in (Joint.EYE_LEFT, Joint.EYE_RIGHT))
        below_root, jaw = 1 - weights[..., Joint.ROOT], weights[..., Joint.JAW]
        pose = [about(Joint.NECK, below_root), a, about(Joint.JAW, jaw), eyes]
        b = (linear * a[..., None]).sum(-2)
        directions = [model.expression_dirs] + [model.identity_dirs] * with_shape
        return torch.cat([*pose, *(torch.einsum(equation, b, values[index]) for values in directions)], -1)


def _cross(u: Float[Tensor, "frames #rows 3"], v: Float[Tensor, "frames rows 3"]) -> Float[Tensor, "frames rows 3"]:
    """Cross products; one vector of a frame may serve all its rows."""
    return torch.linalg.cross(*torch.broadcast_tensors(u, v), dim=-1)


def pixel_derivatives(points: Float[Tensor, "*batch 3"], focal: float) -> Float[Tensor, "*batch 2 3"]:
    """Derivatives of the pixel (x right, y down) of a point with respect to its position, pixels per metre.

    Args:
        points: positions, metres; the camera is at the origin and looks along -z.
        focal: focal length, pixels.
    """
    x, y, z = points.unbind(-1)
    scale = focal / -z
    zero = torch.zeros_like(scale)
    return torch.stack([scale, zero, scale * x / -z, zero, -scale, -scale * y / -z], -1).unflatten(-1, (2, 3))
