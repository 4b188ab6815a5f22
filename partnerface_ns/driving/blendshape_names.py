"""One spelling for the names that programs give to blendshapes, head angles and clocks.

`eyeBlink_L`, `blendShapes.EyeBlinkLeft`, `eye_blink_left` and `EYEBLINKLEFT` are one name. A name is cut into words; a
side is written out and stands last; what stands before the first word of the face is a prefix. A unit may stand last,
as in `HeadYaw_deg`, `time (ms)` or `Timestamp[us]`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|%")
_SIDES = {"l": "left", "left": "left", "r": "right", "right": "right"}
_FACE = ("eye", "jaw", "mouth", "brow", "cheek", "nose", "tongue", "head")
"""What a word begins with from which a name counts."""
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
    """A name in one spelling."""

    key: str
    """Its words in lower case without anything between them, a side last."""
    unit: str | None
    """s, ms, us, ns, deg, rad or percent, where the name ends in one."""


def spelled(name: str) -> Name:
    """A name in one spelling, with its prefix."""
    words = _words(name)
    unit = _UNITS.get(words[-1]) if words else None
    return Name(_key(words[:-1] if unit else words), unit)


def find(name: str, known: Mapping[str, str]) -> str | None:
    """What a name stands for among known ones by key, with or without a prefix; None where it is not known."""
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
    """Channels by key: ARKit's blendshapes, those without their side, the head's angles, jaw and gaze."""
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
