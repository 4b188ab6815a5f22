"""Frames that cannot be used for tracking, each with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from partnerface_ns.common.errors import InputError
from partnerface_ns.tracking.video.decode.reading import MIN_FRAMES
from partnerface_ns.tracking.video.face_pass import FaceTrack
from partnerface_ns.tracking.video.face_texture import grid_facing
from partnerface_ns.tracking.video.face_topology import CHIN, FOREHEAD
from partnerface_ns.tracking.video.identity import compare_people, face_signatures
from partnerface_ns.tracking.video.image_pass import ImageMeasurements
from partnerface_ns.tracking.video.occlusion import find_covered

OTHER_PERSON, COVERED = "another person", "something in front of the face"
_MIN_SHARE = 0.5
"""Smallest share of the frames that must be usable."""
_MAX_DISAGREEMENT = 0.035
"""Largest disagreement of the landmark detector with its mirror image, in face heights."""
_MIN_SHARPNESS = 0.2
"""Smallest sharpness of the face, as a share of the video's median."""


def reasons_to_leave_out(faces: FaceTrack, images: ImageMeasurements) -> dict[int, str]:
    """Return the index of each unusable frame with the reason.

    Identity is compared first: frames count as covered only among frames of the main person.
    """
    reasons = _bad_detections(faces, images)
    facing = grid_facing(images.landmarks)
    kept = _kept(faces, reasons)
    others, hidden = compare_people(face_signatures(images.texture[kept], facing[kept]), faces.times[kept])
    reasons |= dict.fromkeys(kept[others].tolist(), OTHER_PERSON) | dict.fromkeys(kept[hidden].tolist(), COVERED)
    kept = _kept(faces, reasons)
    return reasons | dict.fromkeys(kept[find_covered(images.texture[kept], facing[kept])].tolist(), COVERED)


def _bad_detections(faces: FaceTrack, images: ImageMeasurements) -> dict[int, str]:
    """Frames without a face, without sure landmarks, or with a blurred face."""
    reasons: dict[int, str] = {}
    height = _face_height(images.landmarks)
    sharpness = images.sharpness[np.isfinite(images.sharpness)]
    typical = np.median(sharpness) if len(sharpness) else 0.0
    for index in range(len(faces.times)):
        if np.isnan(faces.boxes[index, 0]):
            reasons[index] = "no face"
        elif np.isnan(images.landmarks[index, 0, 0]):
            reasons[index] = "no landmarks"
        elif images.disagreement[index] > _MAX_DISAGREEMENT * height[index]:
            reasons[index] = "landmarks are unsure (something in front of the face, or a view from the side)"
        elif images.sharpness[index] < _MIN_SHARPNESS * typical:
            reasons[index] = "blurred"
    return reasons


def _kept(faces: FaceTrack, reasons: dict[int, str]) -> Int[np.ndarray, "frames"]:
    return np.array([index for index in range(len(faces.times)) if index not in reasons], dtype=np.int64)


def _face_height(landmarks: Float[np.ndarray, "frames landmarks 3"]) -> Float[np.ndarray, "frames"]:
    """Distance from forehead to chin, pixels."""
    return np.linalg.norm(landmarks[:, FOREHEAD, :2] - landmarks[:, CHIN, :2], axis=-1)


def require_enough(video: Path, num_frames: int, reasons: dict[int, str]) -> None:
    """Check that enough frames remain. Frames of another person do not count towards the total.

    Raises:
        InputError: fewer than `MIN_FRAMES` frames remain, or less than half; names the reasons by frequency.
    """
    num_kept = num_frames - len(reasons)
    counts = {reason: list(reasons.values()).count(reason) for reason in set(reasons.values())}
    summary = ", ".join(f"{count}: {reason}" for reason, count in sorted(counts.items(), key=lambda c: -c[1]))
    kept = f"{num_kept} of {num_frames} frames" + (f" (left out {summary})" if summary else "")
    if num_kept < MIN_FRAMES:
        raise InputError(video, "too few frames can be tracked", expected=f"at least {MIN_FRAMES}", actual=kept)
    if num_kept < _MIN_SHARE * (num_frames - counts.get(OTHER_PERSON, 0)):
        raise InputError(video, "most frames cannot be tracked", expected="at least half of them", actual=kept)
