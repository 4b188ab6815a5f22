"""Rotations and rigid transforms.

Angles are radians, lengths metres. Matrices act on column vectors.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_TINY_ANGLE_SQUARED = 1e-8


def rotation_from_axis_angle(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation matrix of an axis-angle vector, by Rodrigues' formula.

    Near zero it uses the Taylor series, so that the gradient at rest is finite.

    Args:
        vector: rotation axis times angle, radians.
    """
    angle_squared = (vector * vector).sum(-1)[..., None, None]
    tiny = angle_squared < _TINY_ANGLE_SQUARED
    safe = torch.where(tiny, torch.ones_like(angle_squared), angle_squared)
    angle = safe.sqrt()
    sin_ratio = torch.where(tiny, 1 - angle_squared / 6, angle.sin() / angle)
    cos_ratio = torch.where(tiny, 0.5 - angle_squared / 24, (1 - angle.cos()) / safe)
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vector.shape[:-1], 3, 3)
    eye = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return eye + sin_ratio * cross + cos_ratio * (cross @ cross)


def invert_rigid(T: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """The inverse of rigid transforms."""
    inverse = torch.zeros_like(T)
    inverse[..., :3, :3] = T[..., :3, :3].mT
    inverse[..., :3, 3] = -torch.einsum("...ji,...j->...i", T[..., :3, :3], T[..., :3, 3])
    inverse[..., 3, 3] = 1
    return inverse


def rigid(rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4 4"]:
    """The 4x4 matrix of a rotation and a translation."""
    top = torch.cat([rotation, translation[..., None]], -1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 3] = 1
    return torch.cat([top, bottom], -2)


def rigid_about(
    center: Float[Tensor, "3"], rotation: Float[Tensor, "*batch 3"], translation: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """The transform that rotates about a point and then translates.

    Args:
        center: the point, metres.
        rotation: axis-angle vectors, radians.
        translation: metres.
    """
    matrix = rotation_from_axis_angle(rotation)
    return rigid(matrix, center + translation - torch.einsum("...ab,b->...a", matrix, center))


def move_points(T: Float[Tensor, "4 4"], points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
    """Apply the same transform to all points."""
    return points @ T[:3, :3].T + T[:3, 3]


def transform_points(T: Float[Tensor, "*batch 4 4"], points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Apply to each point its own transform."""
    return torch.einsum("...ab,...b->...a", T[..., :3, :3], points) + T[..., :3, 3]
