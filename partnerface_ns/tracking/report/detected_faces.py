"""Faces detected in the images of a capture, and the landmarks of its tracked head in the same images.

Distances are medians over brows, eyes and lips, relative to the height of the face in the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.overlap import posed_verts
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.geometry.rasterizer import project
from partnerface_ns.tracking.fit.embedding import NoFaceError, landmark_embedding
from partnerface_ns.tracking.video.face_topology import (
    BROWS,
    EYE_LEFT,
    EYE_RIGHT,
    LIPS,
    NUM_LANDMARKS,
    mirror_indices,
)
from partnerface_ns.tracking.video.landmark_embedding import LandmarkEmbedding
from partnerface_ns.tracking.video.landmarks import FaceMeshDetector

NUM_IMAGES = 48
"""Number of images in which faces are detected; they are evenly spread."""
_MAX_SPREAD = 0.003
"""Largest median uncertainty of a head model's landmarks, metres. A model beyond it has no recognisable face."""
_COMPARED = np.array([*LIPS, *EYE_LEFT, *EYE_RIGHT, *BROWS])

Points: TypeAlias = Float[np.ndarray, "frames landmarks 2"]


@dataclass(frozen=True)
class DetectedFaces:
    """Detected landmarks in pixels, of all images with a detected face."""

    frames: tuple[Frame, ...]
    landmarks: Points
    """All landmarks of the detector."""

    @property
    def heights(self) -> Float[np.ndarray, "frames"]:
        """Height of each face, pixels."""
        return np.ptp(self.landmarks[..., 1], axis=1)

    @property
    def compared(self) -> Points:
        """The landmarks of brows, eyes and lips."""
        return self.landmarks[:, _COMPARED]

    def distances(self, heads: Points) -> Float[np.ndarray, "frames"]:
        """Distance of a head's landmarks (`head_landmarks`) from the detected ones, for each image."""
        return np.median(np.linalg.norm(heads - self.compared, axis=-1), axis=1) / self.heights

    def mirror(self) -> DetectedFaces:
        """The landmarks in the mirror images."""
        landmarks = self.landmarks[:, mirror_indices()].copy()
        widths = np.array([frame.camera.width for frame in self.frames])
        landmarks[..., 0] = widths[:, None] - landmarks[..., 0]
        return DetectedFaces(self.frames, landmarks)

    def select(self, indices: Sequence[int]) -> DetectedFaces:
        """Select images."""
        return DetectedFaces(tuple(self.frames[i] for i in indices), self.landmarks[list(indices)])


def usable_embedding(model: HeadModel) -> LandmarkEmbedding | None:
    """Return the landmarks of a head model, or None if the model has no recognisable face."""
    try:
        embedding = landmark_embedding(model)
    except NoFaceError:
        return None
    return None if np.median(embedding.spread[_COMPARED]) > _MAX_SPREAD else embedding


def detect_faces(frames: Sequence[Frame]) -> DetectedFaces:
    """Detect the faces in images.

    Raises:
        InputError: an image cannot be decoded.
    """
    detected_frames: list[Frame] = []
    landmarks: list[np.ndarray] = []
    detector = FaceMeshDetector(follow=False)
    for frame in frames:
        detected = detector(load_image(frame, (1.0, 1.0, 1.0))[0])
        if detected is not None:
            detected_frames.append(frame)
            landmarks.append(detected.points[:, :2])
    return DetectedFaces(tuple(detected_frames), np.array(landmarks).reshape(-1, NUM_LANDMARKS, 2))


def detect_faces_evenly(capture: Capture) -> DetectedFaces | None:
    """Detect the faces in evenly spread images; None if less than half of them show a face."""
    frames = pick_evenly([frame for frame in capture.frames if frame.image_path is not None], NUM_IMAGES)
    faces = detect_faces(frames)
    return faces if 0 < len(frames) <= 2 * len(faces.frames) else None


def head_landmarks(capture: Capture, model: HeadModel, embedding: LandmarkEmbedding, frames: Sequence[Frame]) -> Points:
    """Project the compared landmarks of each frame's head to pixels of its camera."""
    points = []
    for frame, verts in zip(frames, posed_verts(capture, model, frames), strict=True):
        camera = frame.camera
        intrinsics = camera.intrinsics
        points.append(project(embedding.points(verts), intrinsics, camera.T_world_camera)[0][_COMPARED])
    return np.array(points).reshape(len(frames), len(_COMPARED), 2)
