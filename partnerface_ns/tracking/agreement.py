"""Does a tracked head's face lie on the face that the images show? This has the last word on whether a capture fits.

Silhouettes do not tell a head under hair; brows, eyes and lips do. Where they do not fit, the usual mistakes are undone
one at a time to see which makes them fit. Only faults of the masks themselves are not overruled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.convention_fixes import CONVENTION_FIXES
from partnerface_ns.capture.names import FixName
from partnerface_ns.capture.verdict import OTHER_HEAD, Verdict, describe_crop, describe_shift
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.tracking.embedding import LandmarkEmbedding
from partnerface_ns.tracking.face_look import FaceLook, Points, embedding_of, head_landmarks, look_at_faces, look_evenly

FAR = 0.025
"""Share of a face's height from which the face is not where the head has it: good tracking is within 1 to 2%."""
_ELSEWHERE = 0.1
"""The same for a single frame, whose landmarks are less sure."""
_MUCH_NEARER = 0.5
"""An undone mistake that leaves this share of the distance is the cause."""
_LAGS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Shifts of images against poses that are tried, in frames."""
_LAG_SHARE, _LAG_GAIN = 0.75, 0.002
"""A shift is named if it leaves this share of the distance, and takes away this much of it."""
_UNORDERED = 0.3
"""Share of other frames' heads that fit an image better than its own, from which the order is wrong: 0 if it is right,
a half by chance."""
_FEW_FACES = 6
"""Faces from which the order of frames can be told."""
_MIN_MOTION = 0.02
"""Median distance of two frames' heads below which their order cannot be told."""
_CROP_FITS = 0.02
"""Distance that one scale and shift must leave to be named."""
_MASKS_OUTSIDE = 0.08
"""Share of a head that fits its face which masks may leave out."""
_MAX_CLEARED = 24
"""Frames whose masks do not fit the head that are looked at again."""
_MIRRORED = "mirrored images: the head fits what they show in a mirror"
_ORDER = "the order of the frames: images and poses are not of the same moments (shuffled, or sorted by name?)"
_SOMEWHERE_ELSE = (
    "the head is in the images, but its face is not where they show it: another head model, or bad tracking; there are"
    " no masks to tell which"
)


@dataclass(frozen=True)
class _Evidence:
    """Faces seen, and what the capture says of the head."""

    capture: Capture
    model: HeadModel
    embedding: LandmarkEmbedding
    look: FaceLook

    def heads(self, frames: Sequence[Frame] | None = None) -> Points:
        return head_landmarks(self.capture, self.model, self.embedding, self.look.frames if frames is None else frames)

    def median(self, heads: Points) -> float:
        return float(np.median(self.look.distances(heads)))


def after_a_look_at_the_face(verdict: Verdict, capture: Capture, model: HeadModel) -> Verdict:
    """The verdict of the masks, corrected by where the faces are.

    A face that fits clears a head that the silhouettes blame, and one that does not fit blames it. Without recognised
    faces the verdict stays.

    Raises:
        InputError: landmarks need a package that is not installed, or an image cannot be decoded.
    """
    embedding = embedding_of(model)
    look = None if embedding is None else look_evenly(capture)
    if embedding is None or look is None:
        return verdict
    evidence = _Evidence(capture, model, embedding, look)
    heads = evidence.heads()
    distances = look.distances(heads)
    verdict = replace(verdict, face=float(np.median(distances)), bad=_bad_frames(verdict, evidence, distances))
    cause, fix = _cause(evidence, heads, float(np.median(distances)))
    return _cleared(verdict) if cause is None else _blamed(verdict, cause, fix)


def _blamed(verdict: Verdict, cause: str, fix: FixName | None) -> Verdict:
    """The verdict on a face that is elsewhere; where faces do not tell why, silhouettes may."""
    verdict = replace(verdict, bad=())
    if cause == OTHER_HEAD and verdict.fits is False and verdict.about != "masks":
        return verdict
    if cause == OTHER_HEAD and verdict.overlap is None:
        cause = _SOMEWHERE_ELSE
    return replace(verdict, fits=False, about="head", cause=cause, fix=fix)


def _cleared(verdict: Verdict) -> Verdict:
    """The verdict on a head that fits its face: only the masks can still be wrong."""
    if verdict.fits is False and verdict.about == "masks":
        return verdict
    outside = 0.0 if verdict.overlap is None else verdict.overlap.outside
    if verdict.about != "order" and outside <= _MASKS_OUTSIDE:
        return replace(verdict, fits=True, cause=None, fix=None)
    cause = f"masks of other images, or cut: {100 * outside:.0f}% of the head is outside of them, and its face fits"
    return replace(verdict, fits=False, about="masks", cause=cause, fix=None)


def _cause(evidence: _Evidence, heads: Points, own: float) -> tuple[str | None, FixName | None]:
    """The mistake that explains why the face is elsewhere, or nothing where it is in its place."""
    lag = _best_lag(evidence, heads)
    if lag:
        return describe_shift(lag * _stride(evidence.capture)), None
    mirrored = float(np.median(evidence.look.mirrored().distances(heads)))
    if mirrored < min(FAR, _MUCH_NEARER * own):
        return _MIRRORED, None
    unordered = _ORDER if _is_unordered(evidence.look, heads) else None
    if own <= FAR:
        return unordered, None
    fixed = {name: _fixed_distance(evidence, name) for name in CONVENTION_FIXES}
    best = min(fixed, key=lambda name: fixed[name])
    if fixed[best] < min(FAR, _MUCH_NEARER * own):
        return CONVENTION_FIXES[best].cause, best
    return _crop_cause(evidence, heads, own) or unordered or OTHER_HEAD, None


def _fixed_distance(evidence: _Evidence, name: FixName) -> float:
    look = evidence.look
    fixed = CONVENTION_FIXES[name].apply(replace(evidence.capture, frames=look.frames))
    heads = head_landmarks(fixed, evidence.model, evidence.embedding, fixed.frames)
    return float(np.median(look.distances(heads)))


def _crop_cause(evidence: _Evidence, heads: Points, own: float) -> str | None:
    """The cause, if one scale and shift of all images makes the faces fit."""
    look = evidence.look
    ours, theirs = heads.reshape(-1, 2), look.compared.reshape(-1, 2)
    middle, target = np.median(ours, 0), np.median(theirs, 0)
    scale = float(np.median(np.linalg.norm(theirs - target, axis=1)) / np.median(np.linalg.norm(ours - middle, axis=1)))
    if evidence.median((heads - middle) * scale + target) >= min(_CROP_FITS, _MUCH_NEARER * own):
        return None
    camera = look.frames[0].camera
    center = np.array([camera.width, camera.height]) / 2
    return describe_crop(scale, *((center - middle) * scale + target - center).round().astype(int).tolist())


def _is_unordered(look: FaceLook, heads: Points) -> bool:
    """Whether heads of other frames fit the images as well as their own, after a shift that is the same for all."""
    shape, seen = (points - np.median(points, (0, 1)) for points in (heads, look.compared))
    moved = np.median(np.linalg.norm(shape[:, None] - shape[None], axis=-1), -1) / look.heights
    if len(heads) < _FEW_FACES or float(np.median(moved[~np.eye(len(heads), dtype=bool)])) < _MIN_MOTION:
        return False
    apart = np.median(np.linalg.norm(shape[:, None] - seen[None], axis=-1), -1)
    return float((apart < np.diagonal(apart)).mean()) > _UNORDERED


def _best_lag(evidence: _Evidence, heads: Points) -> int:
    """The shift, in frames, whose poses fit the images much better than their own; 0 if none does.

    Positive where poses fit later images.
    """
    look = evidence.look
    one_camera = [f for f in evidence.capture.frames if f.camera_index == look.frames[0].camera_index]
    in_time = sorted(one_camera, key=lambda frame: frame.timestep)
    place = {frame.timestep: i for i, frame in enumerate(in_time)}
    own, best = look.distances(heads), (0, FAR)
    for lag in (sign * size for size in _LAGS for sign in (1, -1)):
        moved = {j: place[f.timestep] - lag for j, f in enumerate(look.frames) if f.timestep in place}
        chosen = [j for j, i in moved.items() if 0 <= i < len(in_time)]
        if len(chosen) < max(_FEW_FACES, len(look.frames) / 2):
            continue
        distances = look.of(chosen).distances(evidence.heads([in_time[moved[j]] for j in chosen]))
        distance, usual = float(np.median(distances)), float(np.median(own[chosen]))
        if distance < min(best[1], _LAG_SHARE * usual, usual - _LAG_GAIN):
            best = (lag, distance)
    return best[0]


def _stride(capture: Capture) -> int:
    """Timesteps from one frame to the next."""
    steps = sorted({frame.timestep for frame in capture.frames})
    return max(1, round((steps[-1] - steps[0]) / max(1, len(steps) - 1)))


def _bad_frames(verdict: Verdict, evidence: _Evidence, distances: np.ndarray) -> tuple[Frame, ...]:
    """Single frames whose head is elsewhere, by their masks and not cleared by their faces, or by their faces."""
    blamed = {frame.timestep: frame for frame in verdict.bad}
    if 0 < len(blamed) <= _MAX_CLEARED:
        again = look_at_faces(list(verdict.bad))
        heads = evidence.heads(again.frames)
        for frame, distance in zip(again.frames, again.distances(heads), strict=True):
            if distance <= _ELSEWHERE:
                blamed.pop(frame.timestep, None)
    for frame, distance in zip(evidence.look.frames, distances, strict=True):
        if distance > _ELSEWHERE:
            blamed.setdefault(frame.timestep, frame)
    return tuple(blamed[t] for t in sorted(blamed))
