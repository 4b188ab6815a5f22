"""One person's motion on another person's avatar.

Relative (the default): the avatar adds to its own measured neutral face what the source's face adds to the source's.
Its skull moves as the source's: with T_n and T(t) the source's skull at its neutral and at time t, and A the rigid
motion from the source's world to the avatar's that takes T_n to the avatar's neutral skull,

    T_avatar(t) = A T(t),    camera(t) = A camera_source(t)

so the avatar stands before its camera as the source did before its own, wherever the two were filmed. Absolute: faces,
skulls and cameras as they are (A = 1). Identity is never taken over: it is no part of a head state.

Torso, gaze and lids follow from the head state. Angles are radians, lengths metres; nothing is differentiable.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation
from torch import Tensor

from partnerface_ns.avatar.file_format import AvatarInfo
from partnerface_ns.driving.motion import Motion, Skulls, skull_of
from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.geometry.rigid import invert_rigid, rotation_from_axis_angle

_NAMED = 12
"""Channels that are named at most, besides the first."""
Transfer = Literal["relative", "absolute"]
_FACE = ("expression", "jaw", "eyes", "neck")
"""Fields that are kept near what training saw; the head may be anywhere."""
_LEAST_MARGIN = {"expression": 0.25, "jaw": 0.08, "eyes": 0.05, "neck": 0.15}
"""How far beyond the range of training a channel may go at least: coefficients, radians."""
_MARGIN_SHARE = {"expression": 0.5, "jaw": 0.5, "eyes": 0.1, "neck": 0.5}
"""How far it may go as a share of that range: an iris breaks where it comes under lids as training never saw it."""


@dataclass(frozen=True)
class Beyond:
    """A channel that goes beyond what training saw."""

    channel: str
    value: float
    """Where it goes furthest."""
    limit: float
    """The end of its range in training."""

    def __str__(self) -> str:
        return f"{self.channel}: {self.value:.2f}, seen up to {self.limit:.2f}"


@dataclass(frozen=True)
class Excess:
    """How far a motion goes beyond what training saw, before it is clamped."""

    share: float
    """Share of moments at which any channel does."""
    channels: tuple[Beyond, ...]
    """Those that do, the one that goes furthest by its range in training first."""

    def __str__(self) -> str:
        if not self.share:
            return "The motion stays within what training saw."
        furthest, *others = self.channels
        said = f"{100 * self.share:.0f}% of the moments go beyond what training saw, furthest {furthest}"
        named = ", ".join(other.channel for other in others[:_NAMED])
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        return f"{said}; then {named}{more}." if others else f"{said}."


def retargeted(
    motion: Motion, head: ShapedHead, neutral: HeadState, transfer: Transfer = "relative"
) -> tuple[HeadState, Float[np.ndarray, "4 4"]]:
    """The avatar's head states, batch axes (timesteps,), and A: avatar's world from the source's.

    Args:
        motion: with coefficients of the avatar's head model.
        head: the avatar's person, on the CPU.
        neutral: the avatar's neutral state, batch axes ().
        transfer: relative to both neutrals, or absolute; a source without a head of its own is always placed by A.
    """
    face = _relative_face(motion, neutral) if transfer == "relative" else motion.states
    skulls = motion.skulls or Skulls(skull_of(head, motion.states), skull_of(head, motion.neutral))
    if transfer == "absolute" and motion.skulls is not None:
        A = torch.eye(4, dtype=torch.float64)
    else:
        A = skull_of(head, neutral) @ invert_rigid(skulls.neutral)
    return with_skull(head, face, A @ skulls.moving), A.numpy()


def _relative_face(motion: Motion, neutral: HeadState) -> HeadState:
    """Expression, jaw and eyes added to the avatar's, the neck's rotation composed with it."""
    source, rest = motion.states, motion.neutral
    added = {n: getattr(neutral, n) + getattr(source, n) - getattr(rest, n) for n in ("expression", "jaw", "eyes")}
    turn = _rotation(source.neck) * _rotation(rest.neck).inv() * _rotation(neutral.neck)
    return replace(source, **added, neck=_vector(turn))


def with_skull(head: ShapedHead, face: HeadState, T_skull: Float[Tensor, "timesteps 4 4"]) -> HeadState:
    """The states whose skull is at `T_skull`: the global rotation and translation take what the neck leaves."""
    R = T_skull[:, :3, :3] @ rotation_from_axis_angle(face.neck.double()).mT
    translation = T_skull[:, :3, 3] - _skull_origin(head, face, R)
    return replace(face, rotation=_vector(Rotation.from_matrix(R.numpy())), translation=translation.float())


def skull_at(head: ShapedHead, states: HeadState) -> Float[Tensor, "timesteps 4 4"]:
    """Where the skull of states is, world from rest, float64: `with_skull` the other way."""
    R = rotation_from_axis_angle(states.rotation.double())
    T = torch.eye(4, dtype=torch.float64).repeat(len(states), 1, 1)
    T[:, :3, :3] = R @ rotation_from_axis_angle(states.neck.double())
    T[:, :3, 3] = _skull_origin(head, states, R) + states.translation.double()
    return T


def _skull_origin(head: ShapedHead, states: HeadState, R: Float[Tensor, "timesteps 3 3"]) -> Tensor:
    """Where global rotations R take the skull's origin, without translation, (timesteps, 3).

    T x = R (neck + N (x - neck) - root) + root + translation
    """
    root, neck = _joints(head, states)
    N = rotation_from_axis_angle(states.neck.double())
    return torch.einsum("tab,tb->ta", R, neck - torch.einsum("tab,tb->ta", N, neck) - root) + root


def _joints(head: ShapedHead, states: HeadState) -> tuple[Tensor, Tensor]:
    """Places of root and neck joint in the rest frame, (timesteps, 3) float64; expression moves them a little."""
    rows = head.model.joint_regressor[[Joint.ROOT, Joint.NECK]]
    moved = torch.einsum("jv,vae->jae", rows, head.model.expression_dirs)
    at = rows @ head.verts_rest + torch.einsum("jae,te->tja", moved, states.expression)
    return at[:, 0].double(), at[:, 1].double()


def smoothed(states: HeadState, moments: float) -> HeadState:
    """States averaged over time by a Gaussian of so many moments' standard deviation; 0 leaves them."""
    if moments == 0:
        return states
    blur = lambda v: gaussian_filter1d(v, moments, axis=0, mode="nearest")  # noqa: E731
    # Rotations are averaged as turns from one of them: an axis-angle vector jumps at half a turn.
    middle = _rotation(states.rotation[len(states) // 2])
    turns = blur((middle.inv() * _rotation(states.rotation)).as_rotvec())
    rest = {f.name: torch.from_numpy(blur(getattr(states, f.name).numpy())) for f in fields(HeadState)}
    return HeadState(**(rest | {"rotation": _vector(middle * Rotation.from_rotvec(turns))}))


def clamped(states: HeadState, info: AvatarInfo) -> HeadState:
    """States that approach, but never pass, a share of the range of training beyond it; within it unchanged."""
    changed = {}
    for name in _FACE:
        value, low, high = (getattr(s, name) for s in (states, info.lowest, info.highest))
        margin = (_MARGIN_SHARE[name] * (high - low)).clamp(min=_LEAST_MARGIN[name])
        over, under = (value - high).clamp(min=0), (low - value).clamp(min=0)
        changed[name] = value - over + margin * torch.tanh(over / margin) + under - margin * torch.tanh(under / margin)
    return replace(states, **changed)


def excess(states: HeadState, info: AvatarInfo, expression_names: tuple[str, ...]) -> Excess:
    """How far states, batch axes (timesteps,), go beyond the range of training by more than the least margin."""
    beyond, names, values, ends = [], [], [], []
    for name in _FACE:
        value, low, high = (getattr(s, name) for s in (states, info.lowest, info.highest))
        width = (high - low).clamp(min=2 * _LEAST_MARGIN[name])
        distance = torch.maximum(value - high, low - value) - _LEAST_MARGIN[name]
        beyond.append(distance / width)
        names += expression_names if name == "expression" else [f"{name}[{i}]" for i in range(value.shape[-1])]
        values.append(value)
        ends.append(torch.where(value > high, high, low))
    distance, value, end = torch.cat(beyond, -1), torch.cat(values, -1), torch.cat(ends, -1)
    furthest, moment = distance.max(0)
    order = [i for i in furthest.argsort(descending=True).tolist() if furthest[i] > 0]
    channels = tuple(Beyond(names[i], float(value[moment[i], i]), float(end[moment[i], i])) for i in order)
    return Excess(float((distance > 0).any(1).float().mean()), channels)


def moved_camera(camera: Camera, T: Float[np.ndarray, "4 4"]) -> Camera:
    """The camera after a rigid motion of the world."""
    return replace(camera, T_world_camera=T @ camera.T_world_camera)


def _rotation(vector: Tensor) -> Rotation:
    return Rotation.from_rotvec(vector.numpy().astype(np.float64))


def _vector(rotation: Rotation) -> Tensor:
    return torch.from_numpy(rotation.as_rotvec().astype(np.float32))
