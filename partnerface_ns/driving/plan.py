"""What is going to be rendered: a head state, a camera and perhaps a source image for every moment."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.spatial.transform import Rotation

from partnerface_ns.capture.images import load_image
from partnerface_ns.common.errors import InputError
from partnerface_ns.driving.motion import Motion, Skulls
from partnerface_ns.driving.player import Player, scaled_camera
from partnerface_ns.driving.retarget import (
    Excess,
    Transfer,
    clamped,
    excess,
    moved_camera,
    retargeted,
    skull_at,
    smoothed,
    with_skull,
)
from partnerface_ns.flame.neutral import central_frame
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.rendering.figures import to_image

View = Literal["captured", "fixed", "orbit"]
_ORBIT, _ORBIT_SECONDS = 0.45, 8.0
"""Radians that an orbiting camera swings to either side, and seconds for a whole swing."""


@dataclass
class PlanConfig:
    """How a motion becomes images."""

    transfer: Transfer = "relative"
    """relative: what the source's face adds to its neutral is added to the avatar's; absolute: head states as they
    are."""
    camera: View = "captured"
    """captured: as the source was filmed, or the avatar where the source has no camera; fixed: the avatar's training
    camera; orbit: that camera swinging around the face."""
    size: int | None = None
    """Longer side of the images, pixels; by default the camera's own."""
    smoothing: float = 0.0
    """Standard deviation in seconds of a Gaussian that smooths the motion over time."""
    clamp: bool = True
    """Whether the face is kept softly near what training saw."""
    side_by_side: bool = False
    """Whether the source's image stands to the left."""
    max_frames: int | None = None
    """WarpFrames rendered at most; by default all."""


@dataclass(frozen=True)
class Plan:
    """All that is rendered, one entry a moment."""

    states: HeadState
    """Batch axes (timesteps,)."""
    cameras: tuple[Camera, ...]
    fps: float
    excess: Excess
    """How far the motion went beyond training before it was clamped."""
    source: Motion | None
    """Where images at the left come from; None for none."""
    sound: Path | None = None
    """A video whose sound a clip keeps."""
    sound_start: float = 0.0
    """Seconds of the sound that are over when the first moment begins."""

    def __len__(self) -> int:
        return len(self.states)


class Shown(NamedTuple):
    """A rendered image."""

    rgb: UInt8[np.ndarray, "height width 3"]
    """The source's image at its left, if that was asked for."""
    alpha: UInt8[np.ndarray, "height width"]
    """Opacity; the source's image is opaque."""


def make_plan(player: Player, motion: Motion, config: PlanConfig) -> Plan:
    """Decide what is rendered.

    Raises:
        InputError: an option is out of range, or the source has no images to stand at the side.
    """
    _check(config, motion)
    motion = _first(motion, config.max_frames)
    if config.camera != "captured" and motion.cameras is not None:
        motion = _seen_from_first_camera(motion)
    head = player.person
    states, A = retargeted(motion, head, player.neutral, config.transfer)
    states = smoothed(states, config.smoothing * motion.fps)
    found = excess(states, player.info, head.model.expression_names)
    if config.clamp:
        states = with_skull(head, clamped(states, player.info), skull_at(head, states))
    cameras = _cameras(player, head, motion, config, A)
    if config.size is not None:
        cameras = tuple(scaled_camera(camera, config.size) for camera in cameras)
    beside = motion if config.side_by_side else None
    return Plan(states, cameras, motion.fps, found, beside, motion.sound, motion.sound_start)


def shown(player: Player, plan: Plan, index: int) -> Shown:
    """Render one moment of a plan."""
    rendered = player.render(plan.cameras[index], plan.states[index])
    rgb = to_image(rendered["rgb"])
    alpha = to_image(rendered["accumulation"].expand(-1, -1, 3))[..., 0]
    if plan.source is not None:
        beside = _source_image(plan.source, index, rgb.shape[0])
        rgb = np.concatenate([beside, rgb], 1)
        alpha = np.concatenate([np.full(beside.shape[:2], 255, np.uint8), alpha], 1)
    return Shown(rgb, alpha)


def digest(player: Player, plan: Plan) -> str:
    """A hash of all that decides the images: equal plans of equal avatars give equal images."""
    found = hashlib.sha256(str((plan.fps, plan.source is not None, player.fast)).encode())
    for block in _blocks(player, plan):
        found.update(np.ascontiguousarray(block).tobytes())
    return found.hexdigest()[:16]


def _blocks(player: Player, plan: Plan) -> Iterator[np.ndarray]:
    yield from (getattr(plan.states, f.name).numpy() for f in fields(HeadState))
    for camera in plan.cameras:
        yield camera.T_world_camera
        yield np.array([value for name, value in asdict(camera).items() if name != "T_world_camera"])
    yield from (value.detach().cpu().numpy() for value in player.avatar.state_dict().values())


def check_ranges(config: PlanConfig) -> None:
    """Refuse numbers out of range, before anything is opened.

    Raises:
        InputError: names the option.
    """
    for name, low, high in (("size", 16, 8192), ("smoothing", 0, 10), ("max_frames", 1, 10**9)):
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            raise InputError(f"--{name.replace('_', '-')}", "out of range", expected=f"{low} to {high}", found=value)


def _check(config: PlanConfig, motion: Motion) -> None:
    check_ranges(config)
    if config.side_by_side and motion.images is None:
        raise InputError("--side-by-side", "the source has no images to show")


def _first(motion: Motion, count: int | None) -> Motion:
    if count is None or count >= len(motion):
        return motion
    return motion.at(np.arange(count))


def _seen_from_first_camera(motion: Motion) -> Motion:
    """The motion as the first camera would have seen it: where a tracker moves the camera, the head moves instead."""
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
        return tuple(moved_camera(camera, A) for camera in motion.cameras)
    if config.camera != "orbit":
        return (player.camera,) * len(motion)
    center = head.pose(player.neutral).verts[head.model.regions["face"] > 0.5].mean(0).numpy().astype(np.float64)
    up = player.camera.T_world_camera[:3, 1]
    angles = _ORBIT * np.sin(2 * np.pi * np.arange(len(motion)) / (motion.fps * _ORBIT_SECONDS))
    return tuple(moved_camera(player.camera, _about(center, up * angle)) for angle in angles)


def _about(center: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Rotation by a vector about a point, 4x4."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(vector).as_matrix()
    T[:3, 3] = center - T[:3, :3] @ center
    return T


def _source_image(motion: Motion, index: int, height: int) -> UInt8[np.ndarray, "height width 3"]:
    """The source's image in the avatar's height, black where it has none."""
    assert motion.images is not None and motion.cameras is not None
    camera, frame = motion.cameras[index], motion.images[index]
    width = 2 * max(1, round(camera.width * height / camera.height / 2))
    if frame is None:
        return np.zeros((height, width, 3), np.uint8)
    image = Image.fromarray(load_image(frame, motion.background)[0])
    return np.array(image.resize((width, height), Image.Resampling.LANCZOS))
