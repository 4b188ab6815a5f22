"""The plan of a rendered sequence: a head state, a camera and optionally a source image for each frame."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.spatial.transform import Rotation

from partnerface_ns.capture.images import load_image
from partnerface_ns.common.errors import InputError
from partnerface_ns.driving.motion import Motion
from partnerface_ns.driving.player import Player, scale_camera
from partnerface_ns.driving.retarget import (
    Excess,
    Transfer,
    clamp,
    measure_excess,
    move_camera,
    retarget,
    smooth,
)
from partnerface_ns.driving.skulls import Skulls, place_skull, skull_poses
from partnerface_ns.flame.neutral import central_frame
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.rendering.figures import to_image

View = Literal["captured", "fixed", "orbit"]
_ORBIT_ANGLE, _ORBIT_SECONDS = 0.45, 8.0
"""Radians that an orbiting camera swings to either side, and the period of the swing."""


@dataclass
class PlanConfig:
    """How a motion is rendered."""

    transfer: Transfer = "relative"
    """relative: changes of the source's face are added to the avatar's neutral face; absolute: head states are used
    unchanged."""
    camera: View = "captured"
    """captured: the source's camera, or the avatar's training camera if the source has none; fixed: the avatar's
    training camera; orbit: that camera swinging around the face."""
    size: int | None = None
    """Longer side of the images, pixels; None keeps the camera's size."""
    smoothing: float = 0.0
    """Standard deviation in seconds of the Gaussian that smooths the motion over time."""
    clamp: bool = True
    """Whether the face is kept close to the range of training."""
    side_by_side: bool = False
    """Whether the source's image is shown on the left."""
    max_frames: int | None = None
    """Frames that are rendered at most; None renders all."""


@dataclass(frozen=True)
class Plan:
    """A sequence to render, with one entry per frame."""

    states: HeadState
    """Batch axes (timesteps,)."""
    cameras: tuple[Camera, ...]
    fps: float
    excess: Excess
    """How far the motion exceeds the range of training before it is clamped."""
    source: Motion | None
    """The motion whose images are shown on the left; None shows none."""
    sound: Path | None = None
    """A video whose sound is added to a clip."""
    sound_start: float = 0.0
    """Seconds of the sound before the first frame."""

    def __len__(self) -> int:
        return len(self.states)


class RenderedFrame(NamedTuple):
    """A rendered image."""

    rgb: UInt8[np.ndarray, "height width 3"]
    """Colours, with the source's image on the left if the plan includes it."""
    alpha: UInt8[np.ndarray, "height width"]
    """Opacity; the source's image is opaque."""


def make_plan(player: Player, motion: Motion, config: PlanConfig) -> Plan:
    """Plan the rendering of a motion.

    Raises:
        InputError: an option is out of range, or the source has no images to show beside the avatar.
    """
    _check(config, motion)
    motion = _first_frames(motion, config.max_frames)
    if config.camera != "captured" and motion.cameras is not None:
        motion = _hold_camera_still(motion)
    head = player.person
    states, A = retarget(motion, head, player.neutral, config.transfer)
    states = smooth(states, config.smoothing * motion.fps)
    excess = measure_excess(states, player.info, head.model.expression_names)
    if config.clamp:
        states = place_skull(head, clamp(states, player.info), skull_poses(head, states))
    cameras = _cameras(player, head, motion, config, A)
    if config.size is not None:
        cameras = tuple(scale_camera(camera, config.size) for camera in cameras)
    source = motion if config.side_by_side else None
    return Plan(states, cameras, motion.fps, excess, source, motion.sound, motion.sound_start)


def render_frame(player: Player, plan: Plan, index: int, camera: Camera | None = None) -> RenderedFrame:
    """Render one frame of a plan, from its own camera or another one."""
    rendered = player.render(camera or plan.cameras[index], plan.states[index])
    rgb = to_image(rendered["rgb"])
    alpha = to_image(rendered["accumulation"].expand(-1, -1, 3))[..., 0]
    if plan.source is not None:
        left = _source_image(plan.source, index, rgb.shape[0])
        rgb = np.concatenate([left, rgb], 1)
        alpha = np.concatenate([np.full(left.shape[:2], 255, np.uint8), alpha], 1)
    return RenderedFrame(rgb, alpha)


def digest(player: Player, plan: Plan) -> str:
    """A hash of everything that the images depend on: the avatar, the head states, the cameras and the options."""
    content = hashlib.sha256(str((plan.fps, plan.source is not None, player.fast)).encode())
    for array in _hashed_arrays(player, plan):
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()[:16]


def _hashed_arrays(player: Player, plan: Plan) -> Iterator[np.ndarray]:
    yield from (value.numpy() for value in plan.states.tensors().values())
    for camera in plan.cameras:
        yield camera.T_world_camera
        yield np.array([value for name, value in asdict(camera).items() if name != "T_world_camera"])
    yield from (value.detach().cpu().numpy() for value in player.avatar.state_dict().values())


def check_ranges(config: PlanConfig) -> None:
    """Check that numbers are in range.

    Raises:
        InputError: an option is out of range.
    """
    for name, low, high in (("size", 16, 8192), ("smoothing", 0, 10), ("max_frames", 1, 10**9)):
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            raise InputError(f"--{name.replace('_', '-')}", "out of range", expected=f"{low} to {high}", actual=value)


def _check(config: PlanConfig, motion: Motion) -> None:
    check_ranges(config)
    if config.side_by_side and motion.images is None:
        raise InputError("--side-by-side", "the source has no images", expected="a capture with images, or a video")


def _first_frames(motion: Motion, count: int | None) -> Motion:
    if count is None or count >= len(motion):
        return motion
    return motion.select(np.arange(count))


def _hold_camera_still(motion: Motion) -> Motion:
    """The same view with the first camera throughout: where a tracker moves the camera, the head moves instead."""
    cameras, skulls = motion.cameras, motion.skulls
    assert cameras is not None and skulls is not None
    first = cameras[0].T_world_camera
    if all(np.array_equal(camera.T_world_camera, first) for camera in cameras):
        return motion
    moves = np.stack([first @ np.linalg.inv(camera.T_world_camera) for camera in cameras])
    moving = torch.from_numpy(moves) @ skulls.moving
    middle = central_frame(moving[:, :3, :3].float(), moving[:, :3, 3].float())
    return replace(motion, skulls=Skulls(moving, moving[middle]), cameras=(cameras[0],) * len(cameras))


def _cameras(
    player: Player, head: ShapedHead, motion: Motion, config: PlanConfig, A: Float[np.ndarray, "4 4"]
) -> tuple[Camera, ...]:
    if config.camera == "captured" and motion.cameras is not None:
        return tuple(move_camera(camera, A) for camera in motion.cameras)
    if config.camera != "orbit":
        return (player.camera,) * len(motion)
    up = player.camera.T_world_camera[:3, 1]
    angles = _ORBIT_ANGLE * np.sin(2 * np.pi * np.arange(len(motion)) / (motion.fps * _ORBIT_SECONDS))
    return tuple(move_camera(player.camera, rotate_about(player.face_center, up * angle)) for angle in angles)


def rotate_about(center: Float[np.ndarray, "3"], vector: Float[np.ndarray, "3"]) -> Float[np.ndarray, "4 4"]:
    """The rigid motion that rotates by a rotation vector, radians, about a point."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(vector).as_matrix()
    T[:3, 3] = center - T[:3, :3] @ center
    return T


def _source_image(motion: Motion, index: int, height: int) -> UInt8[np.ndarray, "height width 3"]:
    """The source's image at this height; black for a frame without an image."""
    assert motion.images is not None and motion.cameras is not None
    camera, frame = motion.cameras[index], motion.images[index]
    width = 2 * max(1, round(camera.width * height / camera.height / 2))
    if frame is None:
        return np.zeros((height, width, 3), np.uint8)
    image = Image.fromarray(load_image(frame, motion.background)[0])
    return np.array(image.resize((width, height), Image.Resampling.LANCZOS))
