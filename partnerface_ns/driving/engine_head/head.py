"""The engine head: surface, texture, joints and blendshapes of an avatar for other programs.

Its rest pose has all joints at zero and the person's neutral expression; neck, jaw and eyes of the neutral state are
rotations of the joints. Lengths are metres. The frame is the head model's, which is also glTF's: x to the person's
left, y up, z out of the face. With S the skinning of the head model, a posed vertex is

    v = S(rest + sum_k w_k blendshape_k; joints)

Expressions are blendshapes of the head model itself. Blendshapes that turn a joint (jawOpen, eyeLookUpLeft) are the
straight way to the turned position, for programs that use blendshapes only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from partnerface_ns.driving.engine_head.neutral_field import NeutralField
from partnerface_ns.driving.engine_head.surface import kept_vertices, measure_distances, seen_share
from partnerface_ns.driving.engine_head.texture import Surface, bake, unwrap
from partnerface_ns.driving.player import Player
from partnerface_ns.driving.rig import Rig, arkit_names
from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.geometry.rigid import invert_rigid, rotation_from_axis_angle, transform_points

_TORSO_ALONE = 0.01
"""Weight of the root joint above which a vertex follows the avatar's own torso."""


@dataclass(frozen=True)
class EngineHead:
    """A rigged, textured head. A vertex of the mesh occurs once for each chart of the texture."""

    verts: Float[np.ndarray, "verts 3"]
    """Rest pose, metres."""
    normals: Float[np.ndarray, "verts 3"]
    """Unit normals of the rest pose."""
    faces: Int[np.ndarray, "faces 3"]
    uv: Float[np.ndarray, "verts 2"]
    """Texture coordinates in [0, 1]; v points down."""
    joints: Float[np.ndarray, "joints 3"]
    """Positions of the joints in the rest pose, in the head model's order, metres."""
    weights: Float[np.ndarray, "verts joints"]
    """Skinning weights."""
    blendshapes: dict[str, Float[np.ndarray, "verts 3"]]
    """Displacement of the rest pose by each of ARKit's blendshapes at 1, metres."""
    texture: UInt8[np.ndarray, "size size 3"]
    """Colours of the field at the surface, with the light of the video."""
    neutral: HeadState
    """The person's neutral state, batch axes ()."""
    expression_rows: Float[np.ndarray, "shapes expr"]
    """Expression coefficients that each blendshape adds; zero for those that turn a joint."""
    camera: Camera
    """The avatar's camera, in the frame of the head whose root joint is at rest."""


def build_engine_head(player: Player, texture_size: int) -> EngineHead:
    """Build the engine head of an avatar.

    Args:
        player: the avatar.
        texture_size: side of the texture, texels.
    """
    person, neutral = player.person, player.neutral
    field, model = NeutralField(player), player.head.model
    canonical = player.avatar.skinning.canonical.verts
    normals = vertex_normals(canonical, model.faces)
    distance = torch.from_numpy(measure_distances(field, canonical, normals, model))[:, None]
    surface = canonical + distance.to(canonical.device) * normals
    faces, rest = person.model.faces, rest_surface(player)
    rest = rest + distance * vertex_normals(rest, faces)
    atlas = unwrap(rest.numpy(), faces.numpy(), texture_size)
    seen = torch.where(kept_vertices(model), 1.0, seen_share(field, canonical, normals))
    texture = bake(
        field, atlas, Surface(surface, vertex_normals(surface, model.faces), seen, model.faces), texture_size
    )
    added = arkit_states(player.rig)
    shapes = blendshapes(person, neutral, added)
    source = atlas.source
    return EngineHead(
        verts=rest.numpy()[source],
        normals=vertex_normals(rest, faces).numpy()[source],
        faces=atlas.faces,
        uv=atlas.uv,
        joints=rest_joints(person, neutral).numpy(),
        weights=person.model.skinning_weights.numpy()[source],
        blendshapes={name: shape[source] for name, shape in zip(arkit_names(), shapes.numpy(), strict=True)},
        texture=texture,
        neutral=neutral,
        expression_rows=added.expression.numpy(),
        camera=camera_of_rest(player),
    )


def rest_surface(player: Player) -> Float[Tensor, "verts 3"]:
    """The head model's surface in the rest pose with the neutral expression, metres.

    The torso stands where the avatar's own torso stands in the neutral state.
    """
    person, neutral = player.person, player.neutral
    posed = person.pose(HeadState.stack([neutral]))
    rest = person.verts_rest + posed.offsets[0]
    share = person.model.skinning_weights[:, Joint.ROOT, None]
    moved = transform_points(torso_offset(player).expand(len(rest), 4, 4), rest)
    return torch.where(share > _TORSO_ALONE, torch.lerp(rest, moved, share), rest)


def torso_offset(player: Player) -> Float[Tensor, "4 4"]:
    """The avatar's torso relative to the head model's root joint in the neutral state, in the rest frame."""
    states = HeadState.stack([player.neutral])
    T_world_torso = torso_poses(player, states)
    if T_world_torso is None:
        return torch.eye(4)
    return invert_rigid(player.person.pose(states).T_world_rest[0, Joint.ROOT]) @ T_world_torso[0]


@torch.no_grad()
def torso_poses(player: Player, states: HeadState) -> Float[Tensor, "frames 4 4"] | None:
    """World from canonical through the avatar's torso bone for each state; None if the avatar has no torso bone."""
    torso = player.avatar.warp.torso
    return None if torso is None else torso(states.to(player.device), None).cpu()


def rest_joints(person: ShapedHead, neutral: HeadState) -> Float[Tensor, "joints 3"]:
    """Positions of the joints with the neutral expression, metres."""
    model = person.model
    return model.joint_regressor @ (person.verts_rest + model.expression_dirs @ neutral.expression)


def arkit_states(rig: Rig) -> HeadState:
    """What each of ARKit's blendshapes at 1 adds to a head state, batch axes (shapes,)."""
    names = arkit_names()
    one = np.eye(len(names))
    return rig.states({name: one[i] for i, name in enumerate(names)}, "export")


def blendshapes(person: ShapedHead, neutral: HeadState, added: HeadState) -> Float[Tensor, "shapes verts 3"]:
    """Displacements of the rest pose that give the surface of each state in the neutral pose of the joints, metres.

    Args:
        person: the head.
        neutral: its neutral state, batch axes ().
        added: what each blendshape adds to the state, batch axes (shapes,).
    """
    still = replace(neutral, rotation=torch.zeros(3), neck=torch.zeros(3), translation=torch.zeros(3))
    posed = person.pose(HeadState.stack([still]))
    linear = posed.skinning(person.model.skinning_weights)[0, :, :3, :3]
    shapes = []
    for index in range(len(added)):
        change = added[index].tensors()
        state = HeadState(**{name: value + change[name] for name, value in still.tensors().items()})
        moved = person.pose(HeadState.stack([state])).verts[0] - posed.verts[0]
        shapes.append(torch.linalg.solve(linear, moved))
    return torch.stack(shapes)


def camera_of_rest(player: Player) -> Camera:
    """The avatar's camera relative to the head of the neutral state, whose root joint is moved to the rest pose."""
    neutral, joint = player.neutral, rest_joints(player.person, player.neutral)[Joint.ROOT]
    R = rotation_from_axis_angle(neutral.rotation.double()).numpy()
    T = np.eye(4)
    T[:3, :3] = R
    T[:3, 3] = joint.numpy() + neutral.translation.numpy() - R @ joint.numpy()
    return replace(player.camera, T_world_camera=np.linalg.inv(T) @ player.camera.T_world_camera)
