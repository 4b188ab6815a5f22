"""Where the faces are in some images of a capture, and where its tracked head has them.

Distances are medians over brows, eyes and lips, in shares of the face's height in the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.overlap import posed_verts
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.geometry.rasterizer import project
from partnerface_ns.tracking.embedding import LandmarkEmbedding, NoFaceError, landmark_embedding
from partnerface_ns.tracking.landmarks import (
    BROWS,
    EYE_LEFT,
    EYE_RIGHT,
    LIPS,
    NUM_LANDMARKS,
    LandmarkDetector,
    mirror_indices,
)

NUM_LOOKED = 48
"""Images that are looked at, evenly spread."""
_VAGUE = 0.003
"""Median uncertainty in metres of the head model's own landmarks from which they say nothing: it has hardly a face."""
_COMPARED = np.array([*LIPS, *EYE_LEFT, *EYE_RIGHT, *BROWS])

Points = Float[np.ndarray, "frames landmarks 2"]


@dataclass(frozen=True)
class FaceLook:
    """Landmarks that were recognised, in pixels; images without a recognised face are not among them."""

    frames: tuple[Frame, ...]
    seen: Points
    """All landmarks of the detector."""

    @property
    def heights(self) -> Float[np.ndarray, "frames"]:
        return np.ptp(self.seen[..., 1], axis=1)

    @property
    def compared(self) -> Points:
        return self.seen[:, _COMPARED]

    def distances(self, heads: Points) -> Float[np.ndarray, "frames"]:
        """How far compared landmarks of a head are from those seen, for each image."""
        return np.median(np.linalg.norm(heads - self.compared, axis=-1), axis=1) / self.heights

    def mirrored(self) -> FaceLook:
        """What is seen in the mirror images."""
        seen = self.seen[:, mirror_indices()].copy()
        seen[..., 0] = np.array([frame.camera.width for frame in self.frames])[:, None] - seen[..., 0]
        return FaceLook(self.frames, seen)

    def of(self, chosen: Sequence[int]) -> FaceLook:
        """Some of the images."""
        return FaceLook(tuple(self.frames[i] for i in chosen), self.seen[list(chosen)])


def embedding_of(model: HeadModel) -> LandmarkEmbedding | None:
    """Where a head model has its landmarks; None if hardly a face is recognised in it."""
    try:
        embedding = landmark_embedding(model)
    except NoFaceError:
        return None
    return None if np.median(embedding.spread[_COMPARED]) > _VAGUE else embedding


def look_at_faces(frames: Sequence[Frame]) -> FaceLook:
    """Recognise the faces in images.

    Raises:
        InputError: an image cannot be decoded.
    """
    found: list[tuple[Frame, np.ndarray]] = []
    with LandmarkDetector(follow=False) as detect:
        for frame in frames:
            landmarks = detect(load_image(frame, (1.0, 1.0, 1.0))[0])
            if landmarks is not None:
                found.append((frame, landmarks[0][:, :2]))
    seen = np.array([landmarks for _, landmarks in found]).reshape(-1, NUM_LANDMARKS, 2)
    return FaceLook(tuple(frame for frame, _ in found), seen)


def look_evenly(capture: Capture) -> FaceLook | None:
    """Recognise the faces in some images, evenly spread; None if there is one in fewer than half of them."""
    frames = pick_evenly([frame for frame in capture.frames if frame.image_path is not None], NUM_LOOKED)
    look = look_at_faces(frames)
    return look if 0 < len(frames) <= 2 * len(look.frames) else None


def head_landmarks(capture: Capture, model: HeadModel, embedding: LandmarkEmbedding, frames: Sequence[Frame]) -> Points:
    """Compared landmarks of each frame's head as its camera sees them, in pixels."""
    points = []
    for frame, verts in zip(frames, posed_verts(capture, model, frames), strict=True):
        camera = frame.camera
        points.append(project(embedding.points(verts), camera.intrinsics, camera.T_world_camera)[0][_COMPARED])
    return np.array(points).reshape(len(frames), len(_COMPARED), 2)
