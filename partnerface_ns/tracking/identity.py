"""Which frames show one person, where a video shows several one after the other.

Two faces are compared by their signatures: brightness at fixed places of the upper face, without light that changes
slowly over it, so that brows, eyes and nose are left. Frames of one person with the same pose agree to 0.9 and more,
those of two people to 0.8 at most. A video is split wherever a face looks unlike the one before it, which happens
between people but also when one person moves quickly; stretches that agree are then put together again. Only where
the stretches do not agree is it another person, so a cut back to the same person, or other light, changes nothing.
Where the upper faces are unlike but the lower faces agree, something hides the eyes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from jaxtyping import Bool, Float, UInt8

from partnerface_ns.tracking.face_texture import face_places, logarithm, smooth_light

_UPPER_MIDDLE, _UPPER_HALF = 0.0285, 0.0335
"""Metres above the landmarks' origin: the face above the nose's tip, where hands are seldom, and below hanging hair."""
_LOWER_MIDDLE, _LOWER_HALF = -0.035, 0.03
"""The same for the face below the nose's tip."""
_CONTINUES = 0.9
"""Agreement of neighbouring frames from which they belong to one stretch without a look at more of them."""
_SAME = 0.86
"""Agreement of two stretches from which they show the same person."""
_BEST_SHARE = 0.98
"""Two stretches agree as well as their pairs of frames at this quantile: those with nearly the same pose."""
_FADE_SECONDS, _WINDOW_SECONDS = 0.5, 0.4
"""A cross-fade is looked for between windows of frames this far before and after each frame."""
_SIMILAR_TURN = 0.12
"""Difference of the halves' turns up to which two frames are compared: the same face looks different from the side."""
_MAX_SAMPLES = 40
"""Frames of a stretch that are compared at most."""
_SHORT = 6
"""Frames below which a stretch is too short to found a person."""
_SAME_SHORT, _SAME_ANY_POSE = 0.7, 0.8
"""Agreement from which a short stretch, which has hardly two poses, or one without a similar pose, is of the person."""


@dataclass(frozen=True)
class Looks:
    """What faces look like, frames in order of time. The product of two unit vectors is their agreement."""

    upper: Float[np.ndarray, "frames places"]
    """Unit vectors of the upper face."""
    lower: Float[np.ndarray, "frames others"]
    """Unit vectors of the lower face."""
    turns: Float[np.ndarray, "frames 2"]
    """How much the left and the right half of the face look into the camera, 0 to 1."""

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, frames: np.ndarray) -> Looks:
        return Looks(self.upper[frames], self.lower[frames], self.turns[frames])

    def thinned(self) -> Looks:
        return self[np.linspace(0, len(self) - 1, min(len(self), _MAX_SAMPLES)).astype(int)]


def looks_of(texture: UInt8[np.ndarray, "frames places 3"], facing: Float[np.ndarray, "frames places"]) -> Looks:
    """What identifies a face in each frame.

    Args:
        texture: colours of the face.
        facing: cosine between each place's normal and the line of sight.
    """
    x, y = face_places().points.T
    upper, lower = np.abs(y - _UPPER_MIDDLE) < _UPPER_HALF, np.abs(y - _LOWER_MIDDLE) < _LOWER_HALF
    brightness = logarithm(texture).mean(-1)
    halves = [facing[:, upper & (sign * x > 0)].mean(1) for sign in (1, -1)]
    return Looks(_signature(brightness, upper), _signature(brightness, lower), np.stack(halves, -1))


def _signature(brightness: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Unit vectors of a part of the face, without light that changes slowly over it."""
    values, light = brightness[:, part], smooth_light()[part]
    rest = values - values @ np.linalg.pinv(light).T @ light.T
    return rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-9)


def compare_people(
    faces: Looks, times: Float[np.ndarray, "frames"]
) -> tuple[Bool[np.ndarray, "frames"], Bool[np.ndarray, "frames"]]:
    """Frames that do not show the person who is seen in most frames, and frames that show this person with hidden eyes.

    Frames in which one person fades to another are among the first.

    Args:
        faces: of all frames.
        times: seconds.
    """
    others, hidden = np.zeros((2, len(faces)), dtype=bool)
    stretches = [part for whole in _between_cuts(faces) for part in _between_fades(faces, times, whole)]
    long = [s for s in stretches if len(s) >= _SHORT]
    if len(long) < 2:
        return others, hidden
    person = max(_people(faces, long), key=len)
    for stretch in stretches:
        if stretch[0] not in person and _is_unlike(faces[person], faces[stretch]):
            found = hidden if _lower_agreement(faces[person], faces[stretch]) >= _SAME else others
            found[stretch] = True
    for before, after in pairwise(stretches):
        # Frames in a fade belong to no stretch.
        others[before[-1] + 1 : after[0]] = others[before[-1]] or others[after[0]]
    return others, hidden


def _is_unlike(person: Looks, stretch: Looks) -> bool:
    value = agreement(person, stretch)
    if np.isnan(value):
        return agreement(person, stretch, any_pose=True) < _SAME_ANY_POSE
    return value < (_SAME if len(stretch) >= _SHORT else _SAME_SHORT)


def _lower_agreement(a: Looks, b: Looks) -> float:
    return agreement(Looks(a.lower, a.lower, a.turns), Looks(b.lower, b.lower, b.turns))


def agreement(a: Looks, b: Looks, any_pose: bool = False) -> float:
    """How much the upper faces of two stretches look like one person, up to 1.

    NaN where no two of their frames have a similar pose.

    Args:
        a: frames of one stretch.
        b: frames of the other.
        any_pose: compare frames of different poses too.
    """
    a, b = a.thinned(), b.thinned()
    comparable = np.abs(a.turns[:, None] - b.turns).max(-1) < (np.inf if any_pose else _SIMILAR_TURN)
    pairs = (a.upper @ b.upper.T)[comparable]
    return float(np.quantile(pairs, _BEST_SHARE)) if len(pairs) else float("nan")


def _between_cuts(faces: Looks) -> list[np.ndarray]:
    """Stretches of frames of which each looks like the one before."""
    alike = (faces.upper[1:] * faces.upper[:-1]).sum(-1) >= _CONTINUES
    return np.split(np.arange(len(faces)), np.nonzero(~alike)[0] + 1)


def _between_fades(faces: Looks, times: np.ndarray, stretch: np.ndarray) -> list[np.ndarray]:
    """A stretch without frames in which the face slowly becomes one that looks unlike."""
    frame = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    gap, window = max(1, round(_FADE_SECONDS / frame)), max(2, round(_WINDOW_SECONDS / frame))
    middles = range(gap + window, len(stretch) - gap - window)
    before = [stretch[m - gap - window : m - gap] for m in middles]
    after = [stretch[m + gap : m + gap + window] for m in middles]
    agreements = [agreement(faces[b], faces[a]) for b, a in zip(before, after, strict=True)]
    if not np.any(np.array(agreements) < _SAME):
        return [stretch]
    middle = middles[int(np.nanargmin(agreements))]
    parts = stretch[: middle - gap], stretch[middle + gap :]
    return [part for p in parts for part in _between_fades(faces, times, p)]


def _people(faces: Looks, stretches: list[np.ndarray]) -> list[np.ndarray]:
    """The frames of each person: of stretches that agree, directly or by way of others."""
    from scipy.sparse.csgraph import connected_components

    looks = [faces[s].thinned() for s in stretches]
    agree = np.zeros((len(looks), len(looks)), dtype=bool)
    for a, b in combinations(range(len(looks)), 2):
        agree[a, b] = agreement(looks[a], looks[b]) >= _SAME
    num, person = connected_components(agree, directed=False)
    return [np.concatenate([s for s, p in zip(stretches, person, strict=True) if p == index]) for index in range(num)]
