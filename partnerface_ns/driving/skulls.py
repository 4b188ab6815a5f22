"""The rigid transform of a person's skull, and the head states that place it.

The skull follows the neck joint. A point x of the skull at rest is posed to

    T x = R (neck + N (x - neck) - root) + root + t

where root and neck are the positions of these joints at rest, R is the global rotation, N the neck's rotation and t the
translation. Transforms are float64, world from the head model's rest frame. Nothing here is differentiable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from partnerface_ns.driving.rotation_vectors import rotation_to_vector
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rotation_from_axis_angle

_ROOT, _NECK = 0, 1
"""Indices of the head model's joints."""


@dataclass(frozen=True)
class Skulls:
    """Skull transforms of a motion's source, in the source's world."""

    moving: Float[Tensor, "timesteps 4 4"]
    neutral: Float[Tensor, "4 4"]


def skull_poses(head: ShapedHead, states: HeadState) -> Float[Tensor, "timesteps 4 4"]:
    """The skull transforms of head states with batch axes (timesteps,)."""
    R = rotation_from_axis_angle(states.rotation.double())
    T = torch.eye(4, dtype=torch.float64).repeat(len(states), 1, 1)
    T[:, :3, :3] = R @ rotation_from_axis_angle(states.neck.double())
    T[:, :3, 3] = _skull_origins(head, states, R) + states.translation.double()
    return T


def skull_pose(head: ShapedHead, state: HeadState) -> Float[Tensor, "4 4"]:
    """The skull transform of one head state, batch axes ()."""
    return skull_poses(head, HeadState.stack([state]))[0]


def place_skull(head: ShapedHead, states: HeadState, T_skull: Float[Tensor, "timesteps 4 4"]) -> HeadState:
    """States with the same face and neck whose skull transforms are `T_skull`: the inverse of `skull_poses`.

    The global rotation and the translation are replaced.
    """
    R = T_skull[:, :3, :3] @ rotation_from_axis_angle(states.neck.double()).mT
    translation = T_skull[:, :3, 3] - _skull_origins(head, states, R)
    rotation = rotation_to_vector(Rotation.from_matrix(R.numpy()))
    return replace(states, rotation=rotation, translation=translation.float())


def _skull_origins(
    head: ShapedHead, states: HeadState, R: Float[Tensor, "timesteps 3 3"]
) -> Float[Tensor, "timesteps 3"]:
    """Where global rotations R take the origin of the skull, without translation."""
    root, neck = _joints(head, states)
    N = rotation_from_axis_angle(states.neck.double())
    return torch.einsum("tab,tb->ta", R, neck - torch.einsum("tab,tb->ta", N, neck) - root) + root


def _joints(head: ShapedHead, states: HeadState) -> tuple[Float[Tensor, "timesteps 3"], Float[Tensor, "timesteps 3"]]:
    """Positions of the root and neck joints in the rest frame, float64. Expressions move them a little."""
    rows = head.model.joint_regressor[[_ROOT, _NECK]]
    directions = torch.einsum("jv,vae->jae", rows, head.model.expression_dirs)
    joints = rows @ head.verts_rest + torch.einsum("jae,te->tja", directions, states.expression)
    return joints[:, 0].double(), joints[:, 1].double()
