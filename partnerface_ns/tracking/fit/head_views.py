"""Plain images of a head model from several directions, in which a landmark detector recognises a face."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.geometry.rasterizer import Visible, project, rasterize

SIZE = 384
"""Side of a view, pixels."""
YAWS, PITCHES = (-24.0, -16.0, -8.0, 0.0, 8.0, 16.0, 24.0), (-12.0, 0.0, 12.0)
"""Degrees. Beyond these angles the detector's landmarks slide over the surface."""
IRIS_ANGLE = 0.48
"""Radians between the eye's axis and the rim of its iris: 5.6 mm on an eyeball with a radius of 12 mm."""
_DISTANCE, _FOCAL = 0.9, 2.3
"""Metres from the head, and focal length in image sides: the head fills three quarters of the view."""
_JAW_OPEN = 0.18
"""Rotation of the jaw in radians, which separates the lips."""


def draw_views(model: HeadModel) -> Iterator[tuple[np.ndarray, Visible]]:
    """Yield an image of the head for each direction, and the surface points that its pixels see."""
    verts, albedo = open_mouth(model), _albedo(model)
    for yaw in YAWS:
        for pitch in PITCHES:
            yield render_head(verts, model.faces.numpy(), albedo, _view(verts, yaw, pitch))


def open_mouth(model: HeadModel) -> Float[np.ndarray, "verts 3"]:
    """Pose the neutral head with a slightly open mouth."""
    state = replace(HeadState.neutral(model.num_expr), jaw=torch.tensor([_JAW_OPEN, 0.0, 0.0]))
    shaped = ShapedHead.of(model, torch.zeros(model.num_identity))
    return shaped.pose(state).verts.numpy().astype(np.float64)


def _view(verts: Float[np.ndarray, "verts 3"], yaw: float, pitch: float) -> Camera:
    """A camera that looks at the middle between crown and chin from a direction in degrees."""
    a, b = np.radians(yaw), np.radians(pitch)
    turn_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    turn_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    T = np.eye(4)
    T[:3, :3] = turn_y @ turn_x
    target = np.array([0.0, verts[:, 1].max() - 0.12, 0.0])
    T[:3, 3] = target + T[:3, 2] * _DISTANCE
    return Camera(T, _FOCAL * SIZE, _FOCAL * SIZE, SIZE / 2, SIZE / 2, SIZE, SIZE)


def render_head(
    verts: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
    albedo: Float[np.ndarray, "verts 3"],
    camera: Camera,
) -> tuple[UInt8[np.ndarray, "rows columns 3"], Visible]:
    """Render a head with simple shading; also returns the surface points that the pixels see."""
    screen, nearness = project(verts, camera.intrinsics, camera.T_world_camera)
    visible = rasterize(screen, nearness, faces, camera.width, camera.height)
    normals = vertex_normals(torch.from_numpy(verts), torch.from_numpy(faces)).numpy()
    light = camera.T_world_camera[:3, :3] @ np.array([0.3, 0.5, 0.8])
    shade = 0.45 + 0.55 * np.clip(normals @ light / np.linalg.norm(light), 0, 1)
    image = np.full((camera.height * camera.width, 3), 0.75)
    image[visible.samples] = visible.interpolate(albedo * shade[:, None])
    return (image.reshape(camera.height, camera.width, 3) * 255).astype(np.uint8), visible


def _albedo(model: HeadModel) -> Float[np.ndarray, "verts 3"]:
    """Colours that the detector expects: skin, red lips, dark brows and hair, white eyes with a dark iris."""
    verts = model.template.numpy().astype(np.float64)
    region = {name: mask.numpy()[:, None] for name, mask in model.regions.items()}
    colour = np.full((len(verts), 3), (0.86, 0.66, 0.55))
    colour = colour * (1 - region["lips"]) + region["lips"] * (0.65, 0.28, 0.28)
    joints = model.joint_regressor.numpy() @ verts
    dark = (verts[:, 1] > joints[3, 1] + 0.055) | (verts[:, 2] < joints[2, 2] - 0.03)
    colour[dark & (region["head"][:, 0] > 0.5) & (region["ears"][:, 0] < 0.5)] = (0.2, 0.15, 0.1)
    for eye in joints[3:]:
        offset = verts - eye
        brow = (np.abs(offset[:, 1] - 0.024) < 0.004) & (np.abs(offset[:, 0]) < 0.02) & (offset[:, 2] > -0.01)
        colour[brow] = (0.25, 0.18, 0.12)
    colour = colour * (1 - region["inside_mouth"]) + region["inside_mouth"] * (0.3, 0.08, 0.08)
    for index, eye in zip((3, 4), joints[3:], strict=True):
        ball = model.skinning_weights[:, index].numpy() > 0.5
        axis = (verts - eye)[:, 2] / np.linalg.norm(verts - eye, axis=-1)
        colour[ball] = np.where(axis[ball, None] > np.cos(IRIS_ANGLE), (0.12, 0.08, 0.05), (0.92, 0.92, 0.92))
    return colour
