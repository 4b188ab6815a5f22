"""Built-in motions as curves of the channels of `rig.py`: speech, every expression in turn, and mouth shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from partnerface_ns.driving.keyframes import interpolate
from partnerface_ns.driving.resampling import Channels
from partnerface_ns.driving.rig import arkit_names

BuiltinMotionName = Literal["talk", "range", "visemes"]
_VISEMES: Mapping[str, Mapping[str, float]] = {
    "closed": {"mouthPress": 0.4, "mouthRollLower": 0.25},
    "ah": {"jaw": 0.22, "mouthLowerDown": 0.3, "mouthUpperUp": 0.2},
    "ee": {"jaw": 0.07, "mouthStretch": 0.4, "mouthUpperUp": 0.25, "mouthLowerDown": 0.35},
    "oh": {"jaw": 0.16, "mouthFunnel": 0.6},
    "oo": {"jaw": 0.05, "mouthPucker": 0.7},
    "f": {"jaw": 0.04, "mouthRollLower": 0.5, "mouthUpperUp": 0.3},
    "l": {"jaw": 0.12, "mouthLowerDown": 0.3},
    "s": {"jaw": 0.03, "mouthStretch": 0.25, "mouthLowerDown": 0.25},
}
_SPOKEN = ["closed", "ah", "l", "oh", "s", "ee", "closed", "oo", "f", "ah",
           "s", "l", "ee", "oh", "closed", "ah", "l", "ee", "s", "oo"]  # fmt: skip
"""The sequence of mouth shapes in `talk`; it is spoken twice with a pause between."""
_TURNS = {"yaw": 0.35, "pitch": 0.2, "roll": 0.2, "gaze_yaw": 0.35, "gaze_pitch": 0.2}
"""Radians to either side in `every_expression`."""


def _sample(keys: Mapping[str, list[tuple[float, float]]], seconds: float, fps: float) -> Channels:
    """The curves of (seconds, value) keys from 0 to `seconds`."""
    return interpolate(keys, math.floor(seconds * fps) + 1, fps)


def _mouth_shapes(names: list[str], duration: float, start: float) -> dict[str, list[tuple[float, float]]]:
    """Keys that show mouth shapes one after the other from `start` on, each for `duration` seconds."""
    used = sorted({channel for name in names for channel in _VISEMES[name]})
    keys: dict[str, list[tuple[float, float]]] = {channel: [(start - duration / 2, 0.0)] for channel in used}
    for index, name in enumerate(names):
        for channel in used:
            keys[channel].append((start + (index + 0.5) * duration, _VISEMES[name].get(channel, 0.0)))
    for channel in used:
        keys[channel].append((start + (len(names) + 1) * duration, 0.0))
    return keys


def visemes(fps: float) -> Channels:
    """Mouth shapes of speech, one after the other, with the mouth at rest in between."""
    keys = {channel: [(0.0, 0.0)] for shape in _VISEMES.values() for channel in shape}
    for index, shape in enumerate(_VISEMES.values()):
        start = 1.2 * index
        for channel, value in shape.items():
            keys[channel] += [(start + 0.1, 0.0), (start + 0.5, value), (start + 0.8, value), (start + 1.2, 0.0)]
    return _sample(keys, 1.2 * len(_VISEMES), fps)


def talk(fps: float) -> Channels:
    """Eight seconds of speech with blinks, brow movement, glances and head motion."""
    first, second = (_mouth_shapes(_SPOKEN, 0.15, start) for start in (0.4, 4.4))
    keys = {channel: first[channel] + second[channel] for channel in first}
    keys["eyeBlink"] = [
        key for t in (0.9, 3.2, 5.1, 7.3) for key in ((t, 0.0), (t + 0.1, 1.0), (t + 0.15, 1.0), (t + 0.3, 0.0))
    ]
    keys["browInnerUp"] = [(0.5, 0.0), (1.1, 0.5), (1.8, 0.1), (4.5, 0.0), (5.3, 0.7), (6.2, 0.0)]
    keys["mouthSmile"] = [(2.8, 0.0), (3.6, 0.5), (4.3, 0.1), (7.2, 0.0), (7.8, 0.4)]
    keys["gaze_yaw"] = [(3.4, 0.0), (3.6, 0.2), (4.1, 0.2), (4.3, 0.0)]
    time = np.arange(math.floor(8.0 * fps) + 1) / fps
    turns = {
        "yaw": 0.12 * np.sin(1.1 * time) + 0.04 * np.sin(2.9 * time),
        "pitch": 0.05 * np.sin(1.7 * time + 1) - 0.04,
        "roll": 0.04 * np.sin(0.9 * time),
    }
    return _sample(keys, 8.0, fps) | turns


def every_expression(fps: float) -> Channels:
    """Every blendshape, then head turns and gaze to either side, one after the other, each for 0.8 seconds."""
    keys: dict[str, list[tuple[float, float]]] = {}
    goals = [(name, 1.0) for name in arkit_names()]
    goals += [(name, side * size) for name, size in _TURNS.items() for side in (1, -1)]
    for index, (name, goal) in enumerate(goals):
        start = 0.8 * index
        keys.setdefault(name, []).extend([(start, 0.0), (start + 0.35, goal), (start + 0.45, goal), (start + 0.8, 0.0)])
    return _sample({name: _without_repeats(points) for name, points in keys.items()}, 0.8 * len(goals), fps)


def _without_repeats(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return sorted(dict((round(t, 6), value) for t, value in points).items())


BUILTIN_MOTIONS: Mapping[BuiltinMotionName, Callable[[float], Channels]] = {
    "talk": talk,
    "range": every_expression,
    "visemes": visemes,
}
