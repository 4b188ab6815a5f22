"""Motions as animations of the engine head: weights of blendshapes, and motion of joints.

The root joint moves as the avatar's torso does, and the neck joint takes the skull to its place. With W the root's and
S the skull's transform, world from rest, and J the joints' rest positions, the neck's node has the transform
translate(-J_root) W^-1 S translate(J_neck) relative to the root's node.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from partnerface_ns.driving.engine_head.head import EngineHead, torso_offset, torso_poses
from partnerface_ns.driving.player import Player
from partnerface_ns.driving.rotation_vectors import rotation_from_vector
from partnerface_ns.driving.skulls import skull_poses
from partnerface_ns.flame.joints import JOINT_NAMES, Joint
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import invert_rigid, rigid, rotation_from_axis_angle


@dataclass(frozen=True)
class Animation:
    """An animation with one entry per frame."""

    name: str
    times: Float[np.ndarray, "frames"]
    """Seconds from 0."""
    weights: Float[np.ndarray, "frames shapes"]
    """Weights of the blendshapes. Those that turn joints stay zero, because the joints themselves turn."""
    rotations: Float[np.ndarray, "frames joints 4"]
    """Rotation of each joint relative to its parent, quaternions (x, y, z, w)."""
    root: Float[np.ndarray, "frames 3"]
    """Position of the root joint, metres. In the neutral state it is the rest position, but for the root's rotation."""
    neck: Float[np.ndarray, "frames 3"]
    """Position of the neck joint relative to the root joint, metres."""


def animate(head: EngineHead, player: Player, states: HeadState, fps: float, name: str) -> Animation:
    """The animation of head states.

    Expressions that no blendshape has are approximated by the nearest combination of blendshapes.

    Args:
        head: the engine head.
        player: its avatar.
        states: batch axes (frames,), coefficients of its head model.
        fps: frames per second.
        name: the animation's name.
    """
    change = (states.expression - head.neutral.expression).numpy()
    root_joint, neck_joint = (head.joints[joint].astype(np.float64) for joint in (Joint.ROOT, Joint.NECK))
    T_world_root = _root_poses(head, player, states)
    T_root_skull = (invert_rigid(T_world_root) @ skull_poses(player.person, states)).numpy()
    T_world_root = T_world_root.numpy()
    rotations = joint_rotations(states)
    for joint, T in ((Joint.ROOT, T_world_root), (Joint.NECK, T_root_skull)):
        rotations[:, joint] = Rotation.from_matrix(T[:, :3, :3]).as_quat()
    return Animation(
        name=name,
        times=np.arange(len(states)) / fps,
        weights=change @ np.linalg.pinv(head.expression_rows),
        rotations=rotations,
        root=_move(T_world_root, root_joint) - head.neutral.translation.numpy(),
        neck=_move(T_root_skull, neck_joint) - root_joint,
    )


def _root_poses(head: EngineHead, player: Player, states: HeadState) -> Float[Tensor, "frames 4 4"]:
    """World from rest through the root joint as the avatar's torso moves it, float64."""
    T_world_torso = torso_poses(player, states)
    if T_world_torso is not None:
        return T_world_torso.double() @ invert_rigid(torso_offset(player).double())
    R, joint = rotation_from_axis_angle(states.rotation.double()), torch.from_numpy(head.joints[Joint.ROOT]).double()
    return rigid(R, joint - R @ joint + states.translation.double())


def _move(T: Float[np.ndarray, "frames 4 4"], point: Float[np.ndarray, "3"]) -> Float[np.ndarray, "frames 3"]:
    return T[:, :3, :3] @ point + T[:, :3, 3]


def joint_rotations(states: HeadState) -> Float[np.ndarray, "*batch joints 4"]:
    """Rotations of all joints as quaternions (x, y, z, w), batch axes () or (frames,)."""
    vectors = states.full_pose.reshape(*states.batch_shape, len(JOINT_NAMES), 3)
    flat: Rotation = rotation_from_vector(vectors.reshape(-1, 3))
    return flat.as_quat().reshape(*states.batch_shape, len(JOINT_NAMES), 4)


def rest_rotations(neutral: HeadState) -> Float[np.ndarray, "joints 4"]:
    """Rotations of the joints in the neutral state, with an upright root."""
    rotations = joint_rotations(neutral)
    rotations[Joint.ROOT] = (0, 0, 0, 1)
    return rotations
