"""A reduced open head with texture points."""

from __future__ import annotations

import pytest

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.tracking.fit.embedding import landmark_embedding
from partnerface_ns.tracking.fit.fit_head import FitHead, reduce_head
from partnerface_ns.tracking.fit.photometric.surface_points import SurfacePoints, choose_points, face_offsets


@pytest.fixture(scope="package")
def model() -> HeadModel:
    return load_open_head()


@pytest.fixture(scope="package")
def landmark_head(model: HeadModel) -> FitHead:
    """The head of the fit to landmarks."""
    return reduce_head(model, landmark_embedding(model))


@pytest.fixture(scope="package")
def head(model: HeadModel, landmark_head: FitHead) -> FitHead:
    """The same with offsets of face and ears."""
    return landmark_head.with_offsets(face_offsets(model))


@pytest.fixture(scope="package")
def points(head: FitHead) -> SurfacePoints:
    return choose_points(head)
