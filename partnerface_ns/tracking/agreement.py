"""Does a tracked head's face lie on the face that the pictures show? Silhouettes do not tell a head under hair.

The landmarks that a detector sees in a few pictures are compared with those of the posed head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.diagnosis import NUM_FRAMES, OTHER_HEAD, Verdict, evenly
from partnerface_ns.capture.images import load_picture
from partnerface_ns.capture.overlap import posed_verts
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.geometry.camera import Intrinsics
from partnerface_ns.geometry.rasterizer import project
from partnerface_ns.tracking.embedding import NoFaceError, landmark_embedding
from partnerface_ns.tracking.landmarks import BROWS, EYE_LEFT, EYE_RIGHT, LIPS, LandmarkDetector

FAR = 0.03
"""Share of a face's height from which the face is not where the head has it: good tracking is within 1 to 2%."""
_SOMEWHERE_ELSE = (
    "the head is in the pictures, but its face is not where they show it: another head model, pictures cut or resized"
    " after tracking, or frames in another order; there are no masks to tell which"
)
_VAGUE = 0.003
"""Median uncertainty in metres of the head model's own landmarks from which they say nothing: it has hardly a face."""
_COMPARED = np.array([*LIPS, *EYE_LEFT, *EYE_RIGHT, *BROWS])


def after_a_look_at_the_face(verdict: Verdict, capture: Capture, model: HeadModel) -> Verdict:
    """The verdict of the masks, which a face in another place overrules.

    Raises:
        SubjectError: landmarks need a package that is not installed, or a picture cannot be decoded.
    """
    frames = evenly([frame for frame in capture.frames if frame.image_path is not None], NUM_FRAMES)
    if verdict.fits is False or not frames:
        return verdict
    distance = face_distance(capture, model, frames)
    if distance is None:
        return verdict
    if distance > FAR:
        cause = OTHER_HEAD if verdict.fits else _SOMEWHERE_ELSE
        return replace(verdict, fits=False, cause=cause, face=distance)
    return replace(verdict, fits=True, cause=None, face=distance)


def face_distance(capture: Capture, model: HeadModel, frames: Sequence[Frame]) -> float | None:
    """Median distance of the head's brows, eyes and lips from those in pictures, in shares of the face's height.

    Args:
        capture: whose head is posed.
        model: its head model.
        frames: to look at; those without a picture, or in which no face is recognised, do not count.

    Returns:
        None if a face was recognised in fewer than half of the frames, or hardly one in the head model itself.

    Raises:
        SubjectError: a picture cannot be decoded.
    """
    try:
        embedding = landmark_embedding(model)
    except NoFaceError:
        return None
    if np.median(embedding.spread[_COMPARED]) > _VAGUE:
        return None
    distances = []
    with LandmarkDetector(follow=False) as detect:
        for frame, verts in zip(frames, posed_verts(capture, model, frames), strict=True):
            if frame.image_path is None:
                continue
            seen = detect(load_picture(frame, (1.0, 1.0, 1.0))[0])
            if seen is None:
                continue
            camera = frame.camera
            intrinsics = Intrinsics(camera.fl_x, camera.fl_y, camera.cx, camera.cy)
            ours, _ = project(embedding.points(verts), intrinsics, camera.T_world_camera)
            away = np.linalg.norm(seen[0][_COMPARED, :2] - ours[_COMPARED], axis=1)
            distances.append(float(np.median(away) / np.ptp(seen[0][:, 1])))
    return float(np.median(distances)) if 2 * len(distances) >= len(frames) else None
