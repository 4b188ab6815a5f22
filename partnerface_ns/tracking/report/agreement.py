"""Checks whether the tracked head's face lies on the face in the images, and refines the verdict on a capture.

Hair hides the head in silhouettes, but brows, eyes and lips show its position. If they do not fit, each of the usual
mistakes is reverted in turn to see which one makes them fit. The result overrules the silhouettes, except for faults of
the masks themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.convention_fixes import CONVENTION_FIXES
from partnerface_ns.capture.names import FixName
from partnerface_ns.capture.verdict import OTHER_HEAD, Verdict, describe_crop, describe_shift
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.tracking.report.detected_faces import (
    DetectedFaces,
    Points,
    detect_faces,
    detect_faces_evenly,
    head_landmarks,
    usable_embedding,
)
from partnerface_ns.tracking.video.landmark_embedding import LandmarkEmbedding

FAR = 0.025
"""Median distance above which the head is elsewhere, in face heights. Good tracking reaches 0.01 to 0.02."""
_FAR_SINGLE = 0.1
"""The same for a single frame, whose landmarks are less certain."""
_MAX_REMAINDER = 0.5
"""A reverted mistake is the cause if it leaves less than this share of the distance."""
_LAGS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Tried shifts between images and poses, in frames."""
_LAG_REMAINDER, _LAG_GAIN = 0.75, 0.002
"""A shift is the cause if it leaves less than this share of the distance, and reduces it by at least this much."""
_UNORDERED = 0.3
"""The order is wrong if more than this share of other frames' heads fit an image better than its own.

The share is 0 for the right order and one half for a random order."""
_MIN_FACES = 6
"""Smallest number of faces from which the order of frames can be checked."""
_MIN_MOTION = 0.02
"""Median distance between two frames' heads below which their order cannot be checked."""
_CROP_FITS = 0.02
"""Largest distance that a common scale and shift may leave to be the cause."""
_MAX_OUTSIDE = 0.08
"""Largest share of a fitting head that may lie outside the masks."""
_MAX_RECHECKED = 24
"""Largest number of frames with misfitting masks in which the face is checked."""
_MIRRORED = "mirrored images: the head fits what they show in a mirror"
_ORDER = "the order of the frames: images and poses are not of the same frames (shuffled, or sorted by name?)"
_SOMEWHERE_ELSE = (
    "the head is in the images, but its face is not where they show it: another head model, or bad tracking; there are"
    " no masks to tell which"
)


@dataclass(frozen=True)
class _Evidence:
    """The detected faces, and the tracked head of the capture."""

    capture: Capture
    model: HeadModel
    embedding: LandmarkEmbedding
    faces: DetectedFaces

    def heads(self, frames: Sequence[Frame] | None = None) -> Points:
        """Landmarks of the head in some frames, by default in those with a detected face."""
        frames = self.faces.frames if frames is None else frames
        return head_landmarks(self.capture, self.model, self.embedding, frames)

    def median(self, heads: Points) -> float:
        """Median distance of heads from the detected faces."""
        return float(np.median(self.faces.distances(heads)))


def refine_verdict(verdict: Verdict, capture: Capture, model: HeadModel) -> Verdict:
    """Correct the verdict of the masks by the positions of the faces.

    A face that fits confirms the head, whatever the silhouettes say; a face that does not fit rejects it. Without
    detected faces the verdict is unchanged.

    Raises:
        InputError: a package for landmark detection is missing, or an image cannot be decoded.
    """
    embedding = usable_embedding(model)
    faces = None if embedding is None else detect_faces_evenly(capture)
    if embedding is None or faces is None:
        return verdict
    evidence = _Evidence(capture, model, embedding, faces)
    heads = evidence.heads()
    distances = faces.distances(heads)
    median = float(np.median(distances))
    verdict = replace(verdict, face=median, bad=_bad_frames(verdict, evidence, distances))
    cause, fix = _find_cause(evidence, heads, median)
    return _confirm_head(verdict) if cause is None else _reject_head(verdict, cause, fix)


def _reject_head(verdict: Verdict, cause: str, fix: FixName | None) -> Verdict:
    """The verdict on a face that is elsewhere. The silhouettes may explain what the faces cannot."""
    verdict = replace(verdict, bad=())
    if cause == OTHER_HEAD and verdict.fits is False and verdict.about != "masks":
        return verdict
    if cause == OTHER_HEAD and verdict.overlap is None:
        cause = _SOMEWHERE_ELSE
    return replace(verdict, fits=False, about="head", cause=cause, fix=fix)


def _confirm_head(verdict: Verdict) -> Verdict:
    """The verdict on a head that fits its face; only the masks can still be wrong."""
    if verdict.fits is False and verdict.about == "masks":
        return verdict
    outside = 0.0 if verdict.overlap is None else verdict.overlap.outside
    if verdict.about != "order" and outside <= _MAX_OUTSIDE:
        return replace(verdict, fits=True, cause=None, fix=None)
    cause = f"masks of other images, or cut: {100 * outside:.0f}% of the head is outside of them, and its face fits"
    return replace(verdict, fits=False, about="masks", cause=cause, fix=None)


def _find_cause(evidence: _Evidence, heads: Points, own: float) -> tuple[str | None, FixName | None]:
    """The mistake that explains why the face is elsewhere, and its fix; None if the face fits."""
    lag = _best_lag(evidence, heads)
    if lag:
        return describe_shift(lag * _stride(evidence.capture)), None
    mirrored = float(np.median(evidence.faces.mirror().distances(heads)))
    if mirrored < min(FAR, _MAX_REMAINDER * own):
        return _MIRRORED, None
    unordered = _ORDER if _is_unordered(evidence.faces, heads) else None
    if own <= FAR:
        return unordered, None
    distances: dict[FixName, float] = {name: _fixed_distance(evidence, name) for name in CONVENTION_FIXES}
    fix: FixName = min(CONVENTION_FIXES, key=distances.__getitem__)
    if distances[fix] < min(FAR, _MAX_REMAINDER * own):
        return CONVENTION_FIXES[fix].cause, fix
    return _crop_cause(evidence, heads, own) or unordered or OTHER_HEAD, None


def _fixed_distance(evidence: _Evidence, name: FixName) -> float:
    """Median distance of the head after a convention fix."""
    fixed = CONVENTION_FIXES[name].apply(replace(evidence.capture, frames=evidence.faces.frames))
    return evidence.median(head_landmarks(fixed, evidence.model, evidence.embedding, fixed.frames))


def _crop_cause(evidence: _Evidence, heads: Points, own: float) -> str | None:
    """The cause if a common scale and shift of all images makes the faces fit, else None."""
    ours, theirs = heads.reshape(-1, 2), evidence.faces.compared.reshape(-1, 2)
    middle, target = np.median(ours, 0), np.median(theirs, 0)
    scale = float(np.median(np.linalg.norm(theirs - target, axis=1)) / np.median(np.linalg.norm(ours - middle, axis=1)))
    if evidence.median((heads - middle) * scale + target) >= min(_CROP_FITS, _MAX_REMAINDER * own):
        return None
    camera = evidence.faces.frames[0].camera
    center = np.array([camera.width, camera.height]) / 2
    return describe_crop(scale, *((center - middle) * scale + target - center).round().astype(int).tolist())


def _is_unordered(faces: DetectedFaces, heads: Points) -> bool:
    """Whether heads of other frames fit the images as well as their own, after a common shift."""
    shape, detected = (points - np.median(points, (0, 1)) for points in (heads, faces.compared))
    moved = np.median(np.linalg.norm(shape[:, None] - shape[None], axis=-1), -1) / faces.heights
    if len(heads) < _MIN_FACES or float(np.median(moved[~np.eye(len(heads), dtype=bool)])) < _MIN_MOTION:
        return False
    apart = np.median(np.linalg.norm(shape[:, None] - detected[None], axis=-1), -1)
    return float((apart < np.diagonal(apart)).mean()) > _UNORDERED


def _best_lag(evidence: _Evidence, heads: Points) -> int:
    """The shift in frames with which the poses fit the images much better; 0 if there is none.

    It is positive if poses fit later images.
    """
    faces = evidence.faces
    one_camera = [f for f in evidence.capture.frames if f.camera_index == faces.frames[0].camera_index]
    in_time = sorted(one_camera, key=lambda frame: frame.timestep)
    position = {frame.timestep: i for i, frame in enumerate(in_time)}
    own, best_lag, best_distance = faces.distances(heads), 0, FAR
    for lag in (sign * size for size in _LAGS for sign in (1, -1)):
        moved = {j: position[f.timestep] - lag for j, f in enumerate(faces.frames) if f.timestep in position}
        chosen = [j for j, i in moved.items() if 0 <= i < len(in_time)]
        if len(chosen) < max(_MIN_FACES, len(faces.frames) / 2):
            continue
        distances = faces.select(chosen).distances(evidence.heads([in_time[moved[j]] for j in chosen]))
        distance, usual = float(np.median(distances)), float(np.median(own[chosen]))
        if distance < min(best_distance, _LAG_REMAINDER * usual, usual - _LAG_GAIN):
            best_lag, best_distance = lag, distance
    return best_lag


def _stride(capture: Capture) -> int:
    """Mean number of timesteps from one frame to the next."""
    steps = sorted({frame.timestep for frame in capture.frames})
    return max(1, round((steps[-1] - steps[0]) / max(1, len(steps) - 1)))


def _bad_frames(verdict: Verdict, evidence: _Evidence, distances: Float[np.ndarray, "frames"]) -> tuple[Frame, ...]:
    """Single frames whose head is elsewhere: by their faces, or by their masks if their faces do not fit."""
    bad = {frame.timestep: frame for frame in verdict.bad}
    if 0 < len(bad) <= _MAX_RECHECKED:
        rechecked = detect_faces(list(verdict.bad))
        heads = evidence.heads(rechecked.frames)
        for frame, distance in zip(rechecked.frames, rechecked.distances(heads), strict=True):
            if distance <= _FAR_SINGLE:
                bad.pop(frame.timestep, None)
    for frame, distance in zip(evidence.faces.frames, distances, strict=True):
        if distance > _FAR_SINGLE:
            bad.setdefault(frame.timestep, frame)
    return tuple(bad[t] for t in sorted(bad))
