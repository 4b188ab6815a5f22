"""The landmark embedding of a head model: where the 478 face landmarks lie on its surface.

The head is rendered from several directions with a slightly open mouth, and the landmark detector runs on each image.
Every landmark is traced to the surface point under it; the point nearest to the median over the views is kept, and the
scatter of the views is its uncertainty. Irises are constructed from the eyeballs.

The embedding of the open head comes from images of many synthetic people (`scripts/build_landmarks.py`) and ships with
the package. Other heads are processed at their first use, and the result is stored in the user's cache folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.tracking.fit.head_views import PITCHES, SIZE, YAWS, draw_views, open_mouth
from partnerface_ns.tracking.fit.landmark_tracing import construct_irises, most_central, skin_faces, trace_landmarks
from partnerface_ns.tracking.video.landmark_embedding import (
    LandmarkEmbedding,
    packaged_embedding,
    read_embedding,
    write_embedding,
)
from partnerface_ns.tracking.video.landmarks import FaceMeshDetector

_MIN_VIEWS = 6
"""Smallest number of images in which a face must be detected."""


class NoFaceError(InputError):
    """The landmark detector does not recognise a head model as a face."""


def landmark_embedding(model: HeadModel) -> LandmarkEmbedding:
    """Return the landmarks of a head model: from the package, from the cache, or computed now (seconds).

    Raises:
        NoFaceError: the detector recognises no face in images of this head model.
    """
    packaged = packaged_embedding(model.fingerprint)
    if packaged is not None:
        return packaged
    cached = _cache_folder() / f"landmarks_{model.fingerprint}.npz"
    if not cached.is_file():
        write_embedding(embed_landmarks(model), cached)
    return read_embedding(cached)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "partnerface"


def embed_landmarks(model: HeadModel) -> LandmarkEmbedding:
    """Compute the landmarks of a head model from images of it.

    Raises:
        NoFaceError: the detector recognises a face in too few of the images.
    """
    skin, verts = skin_faces(model), open_mouth(model)
    views = []
    detector = FaceMeshDetector(follow=False, mirrored=False)
    for image, visible in draw_views(model):
        detected = detector(image)
        if detected is not None:
            views.append(trace_landmarks(detected.points[:, :2], visible, SIZE, skin, verts))
    if len(views) < _MIN_VIEWS:
        raise NoFaceError(
            model.name,
            "no face is recognised in images of this head model",
            expected=f"{_MIN_VIEWS} of {len(YAWS) * len(PITCHES)} views",
            actual=len(views),
        )
    return construct_irises(model, most_central(views))
