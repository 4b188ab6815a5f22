"""Normalisation of the names that programs give to blendshapes, head angles and clocks.

`eyeBlink_L`, `blendShapes.EyeBlinkLeft`, `eye_blink_left` and `EYEBLINKLEFT` are the same name. A name is split into
words. A side is spelled out and moved to the end. Words before the first word of the face are a prefix. A unit may
follow, as in `HeadYaw_deg`, `time (ms)` or `Timestamp[us]`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|%")
_SIDES = {"l": "left", "left": "left", "r": "right", "right": "right"}
_FACE = ("eye", "jaw", "mouth", "brow", "cheek", "nose", "tongue", "head")
"""Beginnings of the words at which a prefix ends."""
_UNITS = {
    "s": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s",
    "ms": "ms", "msec": "ms", "millis": "ms", "milliseconds": "ms",
    "us": "us", "usec": "us", "micros": "us", "microseconds": "us", "ns": "ns", "nanos": "ns", "nanoseconds": "ns",
    "deg": "deg", "degs": "deg", "degree": "deg", "degrees": "deg", "rad": "rad", "rads": "rad", "radians": "rad",
    "percent": "percent", "pct": "percent", "%": "percent",
}  # fmt: skip
_TURNS = ("yaw", "pitch", "roll")
_BETWEEN = ("", "rotation", "rot", "pose", "angle")


class Name(NamedTuple):
    """A normalised name."""

    key: str
    """The words in lower case without separators, a side last."""
    unit: str | None
    """s, ms, us, ns, deg, rad or percent, if the name ends in a unit."""


def normalize(name: str) -> Name:
    """The normalised name, including its prefix."""
    words = _words(name)
    unit = _UNITS.get(words[-1]) if words else None
    return Name(_key(words[:-1] if unit else words), unit)


def find_channel(name: str, known: Mapping[str, str]) -> str | None:
    """The channel that a name refers to, with or without a prefix; None if it is unknown.

    Args:
        name: any spelling.
        known: channels by key, as `channel_names` gives them.
    """
    words = _words(name)
    for end in (len(words), len(words) - 1 if words and words[-1] in _UNITS else 0):
        for start in range(end):
            begins_face = words[start].startswith(_FACE)
            if start == 0 or begins_face:
                sides = [word for word in words[:start] if word in _SIDES]
                key = _key([*words[start:end], *sides])
                if key in known:
                    return known[key]
            if begins_face:
                break
    return None


@cache
def channel_names(arkit: tuple[str, ...]) -> dict[str, str]:
    """Channels by key: ARKit's blendshapes, with and without a side, head angles, jaw and gaze."""
    known = {_key(_words(name)): name for name in arkit}
    for name in arkit:
        both = name.removesuffix("Left")
        if both != name and f"{both}Right" in arkit and both.lower() not in _FACE:
            known[both.lower()] = both
    known |= {f"head{between}{turn}": turn for turn in _TURNS for between in _BETWEEN}
    known |= {turn: turn for turn in _TURNS}
    return known | {"jaw": "jaw", "gazeyaw": "gaze_yaw", "gazepitch": "gaze_pitch"}


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _key(words: list[str]) -> str:
    sides = [_SIDES[word] for word in words if word in _SIDES]
    if len(sides) != 1:
        return "".join(words)
    return "".join(word for word in words if word not in _SIDES) + sides[0]
