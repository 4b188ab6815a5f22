"""Which frames show one person, where a video shows several one after the other.

Two faces are compared by their signatures: brightness at fixed places of the face, without light that changes slowly
over it, so that brows, nose, lips and beard are left. Frames of one person with the same pose agree to 0.9 and more,
those of two people to 0.78 at most. A video is split wherever a face looks unlike the one before it, which happens
between people but also when one person moves quickly; stretches that agree are then put together again. Only where
the stretches do not agree is it another person, so a cut back to the same person, or other light, changes nothing.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

from partnerface_ns.tracking.face_texture import face_places, logarithm, smooth_light

_BELOW_HAIR = 0.062
"""Metres above the landmarks' origin up to which hair seldom hangs into the face."""
_CONTINUES = 0.88
"""Agreement of neighbouring frames from which they belong to one stretch without a look at more of them."""
_SAME = 0.83
"""Agreement of two stretches from which they show the same person."""
_BEST_SHARE = 0.98
"""Two stretches agree as well as their pairs of frames at this quantile: those with nearly the same pose."""
_FADE_SECONDS, _WINDOW_SECONDS = 0.5, 0.4
"""A cross-fade is looked for between windows of frames this far before and after each frame."""
_MAX_SAMPLES = 40
"""Frames of a stretch that are compared at most."""
_SHORT = 6
"""Frames below which a stretch is too short to found a person."""
_SHORT_SAME = 0.7
"""Agreement from which a short stretch, which has hardly two poses, is taken for the person of the video."""


def signatures(texture: UInt8[np.ndarray, "frames places 3"]) -> Float[np.ndarray, "frames places"]:
    """What identifies a face in each frame; unit vectors, whose product is their agreement."""
    below = face_places().points[:, 1] < _BELOW_HAIR
    brightness, light = logarithm(texture).mean(-1)[:, below], smooth_light(2)[below]
    rest = brightness - brightness @ np.linalg.pinv(light).T @ light.T
    return rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-9)


def other_people(
    faces: Float[np.ndarray, "frames places"], times: Float[np.ndarray, "frames"]
) -> Bool[np.ndarray, "frames"]:
    """Frames that do not show the person who is seen in most frames; nor those in which one person fades to another.

    Args:
        faces: signatures, frames in order of time.
        times: seconds.
    """
    others = np.zeros(len(faces), dtype=bool)
    stretches = [part for whole in _between_cuts(faces) for part in _between_fades(faces, times, whole)]
    long = [s for s in stretches if len(s) >= _SHORT]
    if len(long) < 2:
        return others
    person = max(_people(faces, long), key=len)
    for stretch in stretches:
        short_same = len(stretch) < _SHORT and agreement(faces[person], faces[stretch]) >= _SHORT_SAME
        others[stretch] = stretch[0] not in person and not short_same
    for before, after in zip(stretches[:-1], stretches[1:], strict=True):
        # Frames in a fade belong to no stretch.
        others[before[-1] + 1 : after[0]] = others[before[-1]] or others[after[0]]
    return others


def agreement(a: Float[np.ndarray, "frames places"], b: Float[np.ndarray, "others places"]) -> float:
    """How much two stretches look like one person, up to 1: that of the pairs of frames that are most alike."""
    return float(np.quantile(_thinned(a) @ _thinned(b).T, _BEST_SHARE))


def _thinned(faces: np.ndarray) -> np.ndarray:
    return faces[np.linspace(0, len(faces) - 1, min(len(faces), _MAX_SAMPLES)).astype(int)]


def _between_cuts(faces: np.ndarray) -> list[np.ndarray]:
    """Stretches of frames of which each looks like the one before."""
    alike = (faces[1:] * faces[:-1]).sum(-1) >= _CONTINUES
    return np.split(np.arange(len(faces)), np.nonzero(~alike)[0] + 1)


def _between_fades(faces: np.ndarray, times: np.ndarray, stretch: np.ndarray) -> list[np.ndarray]:
    """A stretch without frames in which the face slowly becomes one that looks unlike."""
    frame = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    gap, window = max(1, round(_FADE_SECONDS / frame)), max(2, round(_WINDOW_SECONDS / frame))
    middles = range(gap + window, len(stretch) - gap - window)
    before = [stretch[m - gap - window : m - gap] for m in middles]
    after = [stretch[m + gap : m + gap + window] for m in middles]
    agreements = [agreement(faces[b], faces[a]) for b, a in zip(before, after, strict=True)]
    if not agreements or min(agreements) >= _SAME:
        return [stretch]
    middle = middles[int(np.argmin(agreements))]
    parts = stretch[: middle - gap], stretch[middle + gap :]
    return [part for p in parts for part in _between_fades(faces, times, p)]


def _people(faces: np.ndarray, stretches: list[np.ndarray]) -> list[np.ndarray]:
    """The frames of each person: of stretches that agree, directly or by way of others."""
    from scipy.sparse.csgraph import connected_components

    agree = [[agreement(faces[a], faces[b]) >= _SAME for b in stretches] for a in stretches]
    num, person = connected_components(np.array(agree), directed=False)
    return [np.concatenate([s for s, p in zip(stretches, person, strict=True) if p == index]) for index in range(num)]
