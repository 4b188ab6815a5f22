"""The motion of the demo person: two takes of talking, turning the head and making faces.

The first take is for training, and the second take is far from it. In the second take the head is tilted and raised
beyond the first take's range, with an open smile. Only the second take contains a pucker, a sneer and puffed cheeks.
Time runs from 0 to 1 over both takes, so any number of frames covers all of it. The first take ends at `CUT`. Angles
are radians, lengths metres, in the frames of `HeadState`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from partnerface_ns.flame.state import HeadState

CUT = 0.7
"""Share of the first take: VHAP's share of training timesteps."""
SECONDS = 20.0
"""Duration at natural speed."""
EXPRESSION_UNIT, JAW_UNIT, TURN_UNIT = 0.25, 0.08, 0.15
"""Clearly visible changes of an expression coefficient, of the jaw and of the head's direction (radians)."""
_AWAKE = 0.2
"""Constant eyeWide coefficient, because the head model's neutral eyes look sleepy."""
_NECK_SHARE = 0.3
"""Share of the neck joint in the head's rotation; the rest is global rotation."""

Channels = dict[str, np.ndarray]
Keys = Sequence[tuple[int | float, int | float]]


@dataclass(frozen=True)
class Performance:
    """All motion of the person, one entry per timestep."""

    track: HeadState
    torso_rotation: Float[np.ndarray, "timesteps 3"]
    """Rotation of the shoulders about the root joint, axis-angle, world from rest."""
    torso_translation: Float[np.ndarray, "timesteps 3"]
    glasses_slip: Float[np.ndarray, "timesteps"]
    """How far the glasses slid down the nose, metres."""
    num_train: int
    """Number of timesteps of the first take."""


_VISEMES: dict[str, dict[str, float]] = {
    "a": {"jaw": 0.21, "mouthLowerDown": 0.30, "mouthUpperUp": 0.20},
    "e": {"jaw": 0.11, "mouthStretch": 0.35, "mouthUpperUp": 0.30, "mouthLowerDown": 0.30},
    "o": {"jaw": 0.15, "mouthFunnel": 0.60},
    "m": {"jaw": 0.01, "mouthPress": 0.40, "mouthRollLower": 0.25},
    "f": {"jaw": 0.05, "mouthRollLower": 0.45, "mouthUpperUp": 0.35},
    "l": {"jaw": 0.13, "mouthLowerDown": 0.35},
}
"""Mouth shapes of speech: jaw in radians, expression coefficients of both sides."""

_FIRST_TAKE: dict[str, Keys] = {
    "yaw": ((0, 0.05), (0.08, 0.30), (0.16, 0.12), (0.26, -0.28), (0.36, -0.42), (0.47, -0.05), (0.58, 0.42),
            (0.68, 0.18), (0.78, -0.20), (0.88, -0.02), (1, 0.10)),
    "pitch": ((0, 0.02), (0.12, 0.12), (0.22, -0.08), (0.33, 0.10), (0.44, -0.11), (0.53, 0.03), (0.64, 0.16),
              (0.75, -0.10), (0.86, 0.10), (1, 0.0)),
    "roll": ((0, 0.0), (0.15, 0.05), (0.30, -0.04), (0.45, -0.07), (0.60, 0.03), (0.75, 0.06), (0.90, -0.03), (1, 0)),
    "browInnerUp": ((0.10, 0), (0.14, 0.8), (0.20, 0.7), (0.24, 0), (0.42, 0), (0.46, 1.0), (0.51, 0.9), (0.55, 0),
                    (0.82, 0), (0.86, 0.5), (0.90, 0.4), (0.94, 0)),
    "browOuterUp": ((0.10, 0), (0.14, 0.7), (0.20, 0.6), (0.24, 0), (0.42, 0), (0.46, 0.9), (0.51, 0.8), (0.55, 0),
                    (0.90, 0), (0.94, 0.6), (0.98, 0.2)),
    "browDown": ((0.56, 0), (0.60, 0.8), (0.66, 0.7), (0.70, 0), (0.98, 0), (1, 0.15)),
    "mouthSmile": ((0.22, 0), (0.28, 0.65), (0.36, 0.80), (0.42, 0.1), (0.45, 0), (0.72, 0), (0.77, 0.50),
                   (0.82, 0.70), (0.87, 0)),
    "cheekSquint": ((0.24, 0), (0.30, 0.5), (0.37, 0.6), (0.43, 0), (0.75, 0), (0.80, 0.4), (0.86, 0)),
    "eyeSquint": ((0.30, 0), (0.34, 0.5), (0.38, 0.1), (0.58, 0), (0.62, 0.6), (0.68, 0)),
    "eyeWide": ((0.44, 0), (0.47, 0.6), (0.50, 0.5), (0.53, 0)),
    "mouthFrown": ((0.90, 0), (0.94, 0.6), (0.98, 0.3), (1, 0)),
    "mouthLeft": ((0.64, 0), (0.67, 0.5), (0.70, 0)),
    "jaw": ((0.44, 0), (0.48, 0.30), (0.50, 0.28), (0.54, 0.02), (0.56, 0)),
}  # fmt: skip
_FIRST_TALKS = ((0.0, 0.21), (0.52, 0.72), (0.87, 0.93))

_SECOND_TAKE: dict[str, Keys] = {
    "yaw": ((0, -0.05), (0.18, -0.22), (0.36, 0.16), (0.55, 0.34), (0.75, 0.02), (0.9, -0.24), (1, -0.16)),
    "pitch": ((0, -0.15), (0.2, -0.20), (0.4, -0.11), (0.52, 0.10), (0.66, 0.22), (0.76, 0.13), (0.86, -0.12),
              (1, -0.15)),
    "roll": ((0, -0.12), (0.22, -0.16), (0.40, -0.12), (0.6, -0.15), (0.8, -0.16), (1, -0.14)),
    "mouthSmile": ((0, 0.5), (0.08, 0.85), (0.20, 0.8), (0.27, 0.2), (0.32, 0), (0.78, 0), (0.87, 0.7), (1, 0.65)),
    "cheekSquint": ((0, 0.3), (0.08, 0.6), (0.20, 0.6), (0.27, 0), (0.80, 0), (0.88, 0.5), (1, 0.5)),
    "jaw": ((0, 0.10), (0.09, 0.27), (0.18, 0.22), (0.26, 0.02), (0.30, 0), (0.80, 0), (0.88, 0.20), (1, 0.15)),
    "browInnerUp": ((0, 0.3), (0.08, 0.8), (0.18, 0.5), (0.28, 0), (0.72, 0), (0.80, 0.8), (0.90, 0.5), (1, 0.7)),
    "browOuterUp": ((0, 0.3), (0.08, 0.7), (0.18, 0.5), (0.28, 0), (0.72, 0), (0.80, 0.7), (0.90, 0.4), (1, 0.6)),
    "mouthPucker": ((0.22, 0), (0.30, 0.7), (0.38, 0.8), (0.45, 0.3), (0.49, 0)),
    "noseSneer": ((0.41, 0), (0.48, 0.8), (0.57, 0.7), (0.63, 0.15), (0.67, 0)),
    "browDown": ((0.42, 0), (0.49, 0.7), (0.57, 0.6), (0.64, 0)),
    "mouthUpperUp": ((0.44, 0), (0.50, 0.5), (0.57, 0.4), (0.62, 0)),
    "cheekPuff": ((0.58, 0), (0.66, 0.7), (0.77, 0.7), (0.86, 0)),
}  # fmt: skip
_SECOND_TALKS = ((0.88, 1.0),)


def perform(expression_names: Sequence[str], num_frames: int, rng: np.random.Generator) -> Performance:
    """Generate a performance. `rng` varies its sides, amplitudes, syllables, blinks and sway."""
    num_train = int(np.ceil(CUT * num_frames))
    time = (np.arange(num_frames) + 0.5) / num_frames
    # The cut is between two frames for any number of frames.
    time[:num_train] = (np.arange(num_train) + 0.5) / num_train * CUT
    time[num_train:] = CUT + (np.arange(num_frames - num_train) + 0.5) / max(num_frames - num_train, 1) * (1 - CUT)
    channels = _channels(time, rng)
    sway = _wander(time, rng, 6, slow=0.22)
    own = _wander(time, rng, 6, slow=0.6)
    head = np.stack([channels["pitch"], channels["yaw"], channels["roll"]], -1) + own[:, :3] * [0.012, 0.016, 0.010]
    torso_translation = sway[:, :3] * [0.0050, 0.0018, 0.0040]
    torso_rotation = sway[:, 3:] * [0.022, 0.055, 0.026]
    translation = torso_translation + own[:, 3:] * [0.0018, 0.0008, 0.0022] + 0.012 * head[:, [1, 0, 0]] * [1, 0, -1]
    float32 = lambda a: torch.from_numpy(np.asarray(a, dtype=np.float32))  # noqa: E731
    track = HeadState(
        expression=float32(np.stack([channels.get(name, np.zeros(num_frames)) for name in expression_names], -1)),
        rotation=float32(_axis_angle(head * (1 - _NECK_SHARE))),
        neck=float32(_axis_angle(head * _NECK_SHARE)),
        jaw=float32(np.stack([channels["jaw"], np.zeros(num_frames), np.zeros(num_frames)], -1)),
        eyes=float32(_gaze(time, head, rng)),
        translation=float32(translation),
    )
    slip = 0.0012 + 0.0009 * sway[:, 0] + 0.006 * head[:, 0]
    slip = slip - 0.0016 * channels["mouthSmileLeft"] - 0.0014 * channels["noseSneerLeft"]
    return Performance(track, torso_rotation, torso_translation, slip, num_train)


def _axis_angle(pitch_yaw_roll: np.ndarray) -> np.ndarray:
    """Rotation vectors of a yaw (y), then a pitch (x) and a roll (z) in the rotated frame."""
    return Rotation.from_euler("YXZ", pitch_yaw_roll[:, [1, 0, 2]]).as_rotvec()


def _channels(time: np.ndarray, rng: np.random.Generator) -> Channels:
    """All curves by name over both takes. Two-sided expressions have a Left and a Right curve."""
    mirror = rng.choice([-1.0, 1.0])
    curves = {name: np.zeros(len(time)) for name in ("yaw", "pitch", "roll", "jaw")}
    for take, talks, start, end in ((_FIRST_TAKE, _FIRST_TALKS, 0.0, CUT), (_SECOND_TAKE, _SECOND_TALKS, CUT, 1.0)):
        here = (time >= start) & (time < end)
        local = (time[here] - start) / (end - start)
        played = {name: rng.uniform(0.9, 1.1) * _play(keys, local) for name, keys in take.items()}
        for talk in talks:
            for name, values in _speech(local, *talk, rng, (end - start) * SECONDS).items():
                played[name] = played.get(name, 0) + values
        played["eyeWide"] = played.get("eyeWide", 0) + _AWAKE
        played["eyeBlink"] = _blinks(local, rng, (end - start) * SECONDS)
        for name, values in played.items():
            curves.setdefault(name, np.zeros(len(time)))[here] = values
    curves["yaw"], curves["roll"] = mirror * curves["yaw"], mirror * curves["roll"]
    return _both_sides(curves, mirror, rng)


def _play(keys: Keys, time: np.ndarray) -> np.ndarray:
    """A smooth curve through (time, value) keys without overshoot, constant outside of them."""
    at, values = np.array(keys, dtype=float).T
    curve = PchipInterpolator(at, values)(np.clip(time, at[0], at[-1]))
    return np.clip(curve, values.min(), values.max())  # rounding must not open a closed jaw


def _both_sides(curves: Channels, mirror: float, rng: np.random.Generator) -> Channels:
    """Apply every expression to both sides of the face, with a slight asymmetry."""
    unsided = {"yaw", "pitch", "roll", "jaw", "browInnerUp", "mouthFunnel", "mouthPucker", "cheekPuff",
               "mouthRollLower"}  # fmt: skip
    result = {}
    for name, values in curves.items():
        if name == "mouthLeft":
            result["mouthLeft" if mirror > 0 else "mouthRight"] = values
        elif name in unsided:
            result[name] = values
        else:
            uneven = 0.0 if name == "eyeBlink" else rng.uniform(-0.12, 0.12)
            result[f"{name}Left"], result[f"{name}Right"] = (1 + uneven) * values, (1 - uneven) * values
    return result


def _speech(time: np.ndarray, start: float, end: float, rng: np.random.Generator, seconds: float) -> Channels:
    """Syllables from `start` to `end` of a take that lasts `seconds`, about three and a half per second."""
    curves: Channels = {}
    syllable = start + 0.2 / seconds
    while syllable < end - 0.2 / seconds:
        viseme = _VISEMES[rng.choice(list(_VISEMES))]
        envelope = rng.uniform(0.75, 1.1) * np.exp(-(((time - syllable) * seconds / 0.12) ** 2))
        for name, value in viseme.items():
            curves[name] = curves.get(name, 0) + value * envelope
        syllable += rng.uniform(0.2, 0.38) / seconds
    return curves


def _blinks(time: np.ndarray, rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Eyelid curve with a short blink roughly every two seconds."""
    lids, blink = np.zeros(len(time)), rng.uniform(0.6, 1.4)
    while blink < seconds - 0.3:
        lids = np.maximum(lids, np.exp(-(np.abs((time * seconds - blink) / 0.11) ** 3)))
        blink += rng.uniform(1.5, 2.8)
    return lids


def _wander(time: np.ndarray, rng: np.random.Generator, num: int, slow: float) -> np.ndarray:
    """`num` smooth random curves of deviation about 1. `slow` is their mean frequency in Hz."""
    frequency = slow * rng.uniform(0.5, 1.6, (3, num))
    phase = 2 * np.pi * (SECONDS * time[:, None, None] * frequency + rng.uniform(0, 1, (3, num)))
    return np.sin(phase).sum(1) * np.sqrt(2 / 3)


def _gaze(time: np.ndarray, head: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotations of both eyes: they look at the camera while the head turns, with random glances."""
    glances = np.cumsum(rng.uniform(0.5, 1.6, 64)) / SECONDS
    goals = rng.normal(0, 1, (65, 2)) * [0.05, 0.13] * (rng.uniform(0, 1, (65, 1)) < 0.6)
    step = np.clip((time[:, None] - glances) * SECONDS / 0.12, 0, 1)
    step = step * step * (3 - 2 * step)
    glance = goals[0] + step @ np.diff(goals, axis=0)
    pitch = np.clip(glance[:, 0] - 0.6 * head[:, 0], -0.16, 0.20)
    yaw = np.clip(glance[:, 1] - 0.7 * head[:, 1], -0.38, 0.38)
    zero = np.zeros(len(time))
    return np.stack([pitch, yaw + 0.02, zero, pitch, yaw - 0.02, zero], -1)


def frame_features(track: HeadState) -> Float[Tensor, "timesteps features"]:
    """Features that distinguish frames: expression, jaw and head direction in units of clearly visible changes."""
    turn = Rotation.from_rotvec(track.rotation.numpy()) * Rotation.from_rotvec(track.neck.numpy())
    turned = torch.from_numpy(turn.as_rotvec().astype(np.float32))
    return torch.cat([track.expression / EXPRESSION_UNIT, track.jaw / JAW_UNIT, turned / TURN_UNIT], -1)


def novelty(track: HeadState, train: HeadState) -> Float[np.ndarray, "timesteps"]:
    """Distance of each frame to the nearest other frame of `train`, in clearly visible changes."""
    distances, _ = KDTree(frame_features(train).numpy()).query(frame_features(track).numpy(), k=2)
    return np.where(distances[:, 0] > 1e-6, distances[:, 0], distances[:, 1])
