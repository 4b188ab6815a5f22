"""Finds the frames that show the main person, in a video that shows several people one after the other.

A signature describes the brightness on the upper face without slowly varying light, so that it depends on brows, eyes
and nose. Frames of one person in the same pose agree to 0.9 and more, frames of two people to 0.8 at most.

The video is split into stretches wherever a face differs from the one before it: at a change of person, but also when
one person moves fast. Stretches that agree are then merged. A cut back to the same person, or a change of light,
therefore leaves nothing out. Where the upper faces differ but the lower faces agree, something hides the eyes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from partnerface_ns.tracking.video.face_texture import (
    MAX_TURN_DIFFERENCE,
    face_grid,
    face_turns,
    light_basis,
    log_colours,
)

_UPPER_MIDDLE, _UPPER_HALF = 0.0285, 0.0335
"""Middle and half the height of the upper face, metres above the open head's origin.

It starts above the tip of the nose, where hands are rare, and ends below hanging hair."""
_LOWER_MIDDLE, _LOWER_HALF = -0.035, 0.03
"""Middle and half the height of the lower face, below the tip of the nose."""
_CONTINUES = 0.9
"""Agreement of neighbouring frames from which they belong to one stretch."""
_SAME = 0.86
"""Agreement of two stretches from which they show the same person."""
_BEST_QUANTILE = 0.98
"""The agreement of two stretches is this quantile over pairs of frames: pairs with nearly the same pose."""
_FADE_SECONDS, _WINDOW_SECONDS = 0.5, 0.4
"""A cross-fade is detected by comparing windows of this length, this far before and after a frame."""
_MAX_SAMPLES = 40
"""Largest number of frames of a stretch that are compared."""
_MIN_STRETCH = 6
"""Shortest stretch, in frames, that can introduce a person."""
_SAME_SHORT, _SAME_ANY_POSE = 0.7, 0.8
"""Agreement from which a short stretch, or one without a similar pose, shows the main person."""


@dataclass(frozen=True)
class FaceSignatures:
    """Signatures of faces in order of time. The scalar product of two signatures is their agreement."""

    upper: Float[np.ndarray, "frames upper"]
    """Unit vectors of the upper face."""
    lower: Float[np.ndarray, "frames lower"]
    """Unit vectors of the lower face."""
    turns: Float[np.ndarray, "frames 2"]
    """`face_turns` of the upper face."""

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, frames: Int[np.ndarray, "selected"]) -> FaceSignatures:
        return FaceSignatures(self.upper[frames], self.lower[frames], self.turns[frames])

    def thin(self) -> FaceSignatures:
        """At most `_MAX_SAMPLES` frames, evenly spread."""
        return self[np.linspace(0, len(self) - 1, min(len(self), _MAX_SAMPLES)).astype(int)]


def face_signatures(
    texture: UInt8[np.ndarray, "frames points 3"], facing: Float[np.ndarray, "frames points"]
) -> FaceSignatures:
    """Compute the signature of the face in each frame.

    Args:
        texture: colours on the face grid.
        facing: cosine between the normal of each grid point and the line of sight.
    """
    y = face_grid().points[:, 1]
    upper, lower = np.abs(y - _UPPER_MIDDLE) < _UPPER_HALF, np.abs(y - _LOWER_MIDDLE) < _LOWER_HALF
    brightness = log_colours(texture).mean(-1)
    return FaceSignatures(_signature(brightness, upper), _signature(brightness, lower), face_turns(facing, upper))


def _signature(
    brightness: Float[np.ndarray, "frames points"], part: Bool[np.ndarray, "points"]
) -> Float[np.ndarray, "frames part"]:
    """Unit vectors of a part of the face, without slowly varying light."""
    values, light = brightness[:, part], light_basis()[part]
    rest = values - values @ np.linalg.pinv(light).T @ light.T
    return rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-9)


def compare_people(
    faces: FaceSignatures, times: Float[np.ndarray, "frames"]
) -> tuple[Bool[np.ndarray, "frames"], Bool[np.ndarray, "frames"]]:
    """Find the frames of other people, and the frames of the main person with hidden eyes.

    The main person is the one in most frames. Frames in which one person fades to another count as other people.

    Args:
        faces: signatures of all frames.
        times: seconds.
    """
    others, hidden = np.zeros((2, len(faces)), dtype=bool)
    stretches = [part for whole in _split_at_cuts(faces) for part in _split_at_fades(faces, times, whole)]
    long = [stretch for stretch in stretches if len(stretch) >= _MIN_STRETCH]
    if len(long) < 2:
        return others, hidden
    person = max(_group_by_person(faces, long), key=len)
    for stretch in stretches:
        if stretch[0] not in person and _is_other_person(faces[person], faces[stretch]):
            is_hidden = _lower_agreement(faces[person], faces[stretch]) >= _SAME
            (hidden if is_hidden else others)[stretch] = True
    for before, after in pairwise(stretches):
        # Frames in a fade belong to no stretch.
        others[before[-1] + 1 : after[0]] = others[before[-1]] or others[after[0]]
    return others, hidden


def _is_other_person(person: FaceSignatures, stretch: FaceSignatures) -> bool:
    value = agreement(person, stretch)
    if np.isnan(value):
        return agreement(person, stretch, any_pose=True) < _SAME_ANY_POSE
    return value < (_SAME if len(stretch) >= _MIN_STRETCH else _SAME_SHORT)


def _lower_agreement(a: FaceSignatures, b: FaceSignatures) -> float:
    return agreement(FaceSignatures(a.lower, a.lower, a.turns), FaceSignatures(b.lower, b.lower, b.turns))


def agreement(a: FaceSignatures, b: FaceSignatures, any_pose: bool = False) -> float:
    """Similarity of the upper faces in two stretches, at most 1; NaN if no two frames have a similar pose.

    Args:
        a: frames of one stretch.
        b: frames of the other.
        any_pose: also compare frames of different poses.
    """
    a, b = a.thin(), b.thin()
    max_difference = np.inf if any_pose else MAX_TURN_DIFFERENCE
    comparable = np.abs(a.turns[:, None] - b.turns).max(-1) < max_difference
    pairs = (a.upper @ b.upper.T)[comparable]
    return float(np.quantile(pairs, _BEST_QUANTILE)) if len(pairs) else float("nan")


def _split_at_cuts(faces: FaceSignatures) -> list[Int[np.ndarray, "stretch"]]:
    """Stretches of frames in which each face agrees with the one before."""
    agree = (faces.upper[1:] * faces.upper[:-1]).sum(-1) >= _CONTINUES
    return np.split(np.arange(len(faces)), np.nonzero(~agree)[0] + 1)


def _split_at_fades(
    faces: FaceSignatures, times: Float[np.ndarray, "frames"], stretch: Int[np.ndarray, "stretch"]
) -> list[Int[np.ndarray, "part"]]:
    """Split a stretch where the face slowly becomes another one, and drop the frames of the fade."""
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    gap, window = max(1, round(_FADE_SECONDS / step)), max(2, round(_WINDOW_SECONDS / step))
    middles = range(gap + window, len(stretch) - gap - window)
    before = [stretch[m - gap - window : m - gap] for m in middles]
    after = [stretch[m + gap : m + gap + window] for m in middles]
    agreements = [agreement(faces[b], faces[a]) for b, a in zip(before, after, strict=True)]
    if not np.any(np.array(agreements) < _SAME):
        return [stretch]
    middle = middles[int(np.nanargmin(agreements))]
    halves = stretch[: middle - gap], stretch[middle + gap :]
    return [part for half in halves for part in _split_at_fades(faces, times, half)]


def _group_by_person(faces: FaceSignatures, stretches: list[np.ndarray]) -> list[Int[np.ndarray, "frames_of_person"]]:
    """The frames of each person: stretches that agree directly, or through other stretches."""
    from scipy.sparse.csgraph import connected_components

    samples = [faces[stretch].thin() for stretch in stretches]
    agree = np.zeros((len(samples), len(samples)), dtype=bool)
    for a, b in combinations(range(len(samples)), 2):
        agree[a, b] = agreement(samples[a], samples[b]) >= _SAME
    num, person_of = connected_components(agree, directed=False)
    return [
        np.concatenate([stretch for stretch, person in zip(stretches, person_of, strict=True) if person == index])
        for index in range(num)
    ]
