"""Retargeting: one person's motion on another person's avatar.

Relative (the default): the avatar's face is its own measured neutral face plus the difference between the source's face
and the source's neutral face. The avatar's skull moves like the source's skull. Let T_n and T(t) be the source's skull
transform at its neutral state and at time t. Let A be the rigid motion from the source's world to the avatar's that
maps T_n to the avatar's neutral skull. Then

    T_avatar(t) = A T(t),    camera(t) = A camera_source(t)

so the avatar is in front of its camera where the source was in front of its own. Absolute: faces, skulls and cameras
are unchanged (A = 1). Identity is never transferred, because it is not part of a head state.

Torso, gaze and lids follow from the head state. Angles are radians, lengths metres; nothing is differentiable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from partnerface_ns.avatar.file_format import AvatarInfo
from partnerface_ns.driving.motion import Motion
from partnerface_ns.driving.rotation_vectors import rotation_from_vector, rotation_to_vector
from partnerface_ns.driving.skulls import Skulls, place_skull, skull_pose, skull_poses
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.geometry.rigid import invert_rigid

Transfer = Literal["relative", "absolute"]
_MAX_NAMED = 12
"""Largest number of channels that a message names, besides the first."""
_CLAMPED_FIELDS = ("expression", "jaw", "eyes", "neck")
"""Fields that are kept near the range of training; the head may be anywhere."""
_MIN_MARGIN = {"expression": 0.25, "jaw": 0.08, "eyes": 0.05, "neck": 0.15}
"""Smallest margin beyond the range of training: coefficients, radians."""
_MARGIN_SHARE = {"expression": 0.5, "jaw": 0.5, "eyes": 0.1, "neck": 0.5}
"""Margin as a share of the range of training. Eyes have a small one: an iris renders badly where training hid it."""


@dataclass(frozen=True)
class ChannelExcess:
    """A channel that exceeds its range in training."""

    channel: str
    value: float
    """The value furthest beyond the range."""
    limit: float
    """The exceeded end of the range."""

    def __str__(self) -> str:
        return f"{self.channel} ({self.value:.2f}, trained up to {self.limit:.2f})"


@dataclass(frozen=True)
class Excess:
    """How far a motion exceeds the range of training, before it is clamped."""

    share: float
    """Share of frames in which any channel exceeds its range."""
    channels: tuple[ChannelExcess, ...]
    """These channels, the furthest relative to its range first."""

    def __str__(self) -> str:
        if not self.share:
            return "The motion stays within the range of training."
        furthest, *others = self.channels
        start = f"{100 * self.share:.0f}% of the frames exceed the range of training, most of all {furthest}"
        names = ", ".join(other.channel for other in others[:_MAX_NAMED])
        more = f" and {len(others) - _MAX_NAMED} more" if len(others) > _MAX_NAMED else ""
        return f"{start}; also {names}{more}." if others else f"{start}."


def retarget(
    motion: Motion, head: ShapedHead, neutral: HeadState, transfer: Transfer = "relative"
) -> tuple[HeadState, Float[np.ndarray, "4 4"]]:
    """Transfer a motion to an avatar.

    Args:
        motion: the motion, with coefficients of the avatar's head model.
        head: the avatar's person, on the CPU.
        neutral: the avatar's neutral state, batch axes ().
        transfer: relative to both neutral states, or absolute. A source without a head is always placed by A.

    Returns:
        The avatar's head states, batch axes (timesteps,), and A, which maps the source's world to the avatar's.
    """
    states = _relative_face(motion, neutral) if transfer == "relative" else motion.states
    skulls = motion.skulls or Skulls(skull_poses(head, motion.states), skull_pose(head, motion.neutral))
    if transfer == "absolute" and motion.skulls is not None:
        A = torch.eye(4, dtype=torch.float64)
    else:
        A = skull_pose(head, neutral) @ invert_rigid(skulls.neutral)
    return place_skull(head, states, A @ skulls.moving), A.numpy()


def _relative_face(motion: Motion, neutral: HeadState) -> HeadState:
    """The avatar's neutral face plus the source's changes of expression, jaw and eyes; neck rotations are composed."""
    source, rest = motion.states, motion.neutral
    added = {n: getattr(neutral, n) + getattr(source, n) - getattr(rest, n) for n in ("expression", "jaw", "eyes")}
    source_neck, rest_neck, neutral_neck = (rotation_from_vector(s.neck) for s in (source, rest, neutral))
    return replace(source, **added, neck=rotation_to_vector(source_neck * rest_neck.inv() * neutral_neck))


def smooth(states: HeadState, deviation: float) -> HeadState:
    """Smooth states over time with a Gaussian.

    Args:
        states: batch axes (timesteps,).
        deviation: standard deviation in frames; 0 returns the states unchanged.
    """
    if deviation == 0:
        return states
    blur = lambda v: gaussian_filter1d(v, deviation, axis=0, mode="nearest")  # noqa: E731
    # Rotations are smoothed relative to the middle one, because rotation vectors jump at half a turn.
    middle = rotation_from_vector(states.rotation[len(states) // 2])
    turns = blur((middle.inv() * rotation_from_vector(states.rotation)).as_rotvec())
    blurred = {name: torch.from_numpy(blur(value.numpy())) for name, value in states.tensors().items()}
    return HeadState(**(blurred | {"rotation": rotation_to_vector(middle * Rotation.from_rotvec(turns))}))


def clamp(states: HeadState, info: AvatarInfo) -> HeadState:
    """States that stay within a margin around the range of training. Values inside the range are unchanged.

    A value beyond the range approaches the end of the margin asymptotically.
    """
    clamped = {}
    for name in _CLAMPED_FIELDS:
        value, low, high = (getattr(s, name) for s in (states, info.lowest, info.highest))
        margin = (_MARGIN_SHARE[name] * (high - low)).clamp(min=_MIN_MARGIN[name])
        over, under = (value - high).clamp(min=0), (low - value).clamp(min=0)
        clamped[name] = value - over + margin * torch.tanh(over / margin) + under - margin * torch.tanh(under / margin)
    return replace(states, **clamped)


def measure_excess(states: HeadState, info: AvatarInfo, expression_names: tuple[str, ...]) -> Excess:
    """How far states exceed the range of training; values within the smallest margin do not count.

    Args:
        states: batch axes (timesteps,).
        info: the avatar's range of training.
        expression_names: names of the head model's expressions.
    """
    relative, names, values, ends = [], [], [], []
    for name in _CLAMPED_FIELDS:
        value, low, high = (getattr(s, name) for s in (states, info.lowest, info.highest))
        width = (high - low).clamp(min=2 * _MIN_MARGIN[name])
        distance = torch.maximum(value - high, low - value) - _MIN_MARGIN[name]
        relative.append(distance / width)
        names += expression_names if name == "expression" else [f"{name}[{i}]" for i in range(value.shape[-1])]
        values.append(value)
        ends.append(torch.where(value > high, high, low))
    distance, value, end = torch.cat(relative, -1), torch.cat(values, -1), torch.cat(ends, -1)
    furthest, timestep = distance.max(0)
    order = [i for i in furthest.argsort(descending=True).tolist() if furthest[i] > 0]
    channels = tuple(ChannelExcess(names[i], float(value[timestep[i], i]), float(end[timestep[i], i])) for i in order)
    return Excess(float((distance > 0).any(1).float().mean()), channels)


def move_camera(camera: Camera, T: Float[np.ndarray, "4 4"]) -> Camera:
    """The camera after a rigid motion of the world."""
    return replace(camera, T_world_camera=T @ camera.T_world_camera)
