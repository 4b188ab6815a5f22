"""Where landmarks lie on a head model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.head_model import HeadModel, load_head_model
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.tracking.fit import embedding
from partnerface_ns.tracking.fit.embedding import embed_landmarks, landmark_embedding
from partnerface_ns.tracking.video.face_topology import (
    EYE_LEFT,
    IRIS_LEFT,
    IRIS_RIGHT,
    LIPS,
    NUM_LANDMARKS,
    mirror_indices,
)
from partnerface_ns.tracking.video.landmark_embedding import LandmarkEmbedding

UPPER_LIP, LOWER_LIP, NOSE, CHIN = 13, 14, 1, 152


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load_open_head()


@pytest.fixture(scope="module")
def stored(model: HeadModel) -> LandmarkEmbedding:
    return landmark_embedding(model)


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "partnerface"


def test_the_open_heads_landmarks_ship_with_the_package(model, no_cache, monkeypatch):
    monkeypatch.setattr(embedding, "embed_landmarks", None)
    assert landmark_embedding(model).vertices.shape == (NUM_LANDMARKS, 3)
    assert not no_cache.exists()


def test_landmarks_lie_on_triangles_at_the_right_positions(model, stored):
    np.testing.assert_allclose(stored.weights.sum(1), 1, atol=1e-5)
    assert stored.weights.min() > -1e-3
    triangles = {tuple(sorted(face)) for face in model.faces.tolist()}
    assert all(tuple(sorted(corners)) in triangles for corners in stored.vertices.tolist())
    points = stored.points(model.template.numpy())
    jaw = stored.points(model.skinning_weights[:, 2].numpy())
    assert jaw[LOWER_LIP] > 0.5 > jaw[UPPER_LIP], "the lips' inner rims belong to different lips"
    assert points[NOSE, 2] > points[CHIN, 2] and points[NOSE, 1] > points[UPPER_LIP, 1] > points[CHIN, 1]
    assert points[list(EYE_LEFT), 0].min() > 0, "x is the subject's left"
    assert stored.points(model.regions["lips"].numpy())[list(LIPS)].mean() > 0.5


def test_landmarks_are_nearly_symmetric(model, stored):
    points = stored.points(model.template.numpy())
    other = points[mirror_indices()] * (-1, 1, 1)
    assert np.median(np.linalg.norm(points - other, axis=1)) < 0.002


def test_irises_sit_on_the_front_of_the_eyeballs(model, stored):
    points = stored.points(model.template.numpy())
    joints = (model.joint_regressor @ model.template).numpy()
    for part, eye in ((IRIS_LEFT, joints[3]), (IRIS_RIGHT, joints[4])):
        centre, right, top, left, bottom = points[part] - eye
        np.testing.assert_allclose(centre[:2], 0, atol=5e-4)
        assert 0.009 < centre[2] < 0.016
        assert right[0] > 0.004 and left[0] < -0.004 and top[1] > 0.004 and bottom[1] < -0.004


def test_another_head_is_processed_once(model, stored, no_cache, monkeypatch):
    """A changed open head: its landmarks are found near those of the open head, and then kept."""
    changed = replace(model, template=model.template * torch.tensor([1.04, 1.0, 1.0]))
    assert changed.fingerprint != model.fingerprint
    embedding_changed = landmark_embedding(changed)
    distance = np.linalg.norm(
        embedding_changed.points(model.template.numpy()) - stored.points(model.template.numpy()), axis=1
    )
    assert np.median(distance) < 0.006
    assert [p.name for p in no_cache.iterdir()] == [f"landmarks_{changed.fingerprint}.npz"]
    monkeypatch.setattr(embedding, "embed_landmarks", None)
    np.testing.assert_allclose(landmark_embedding(changed).weights, embedding_changed.weights)


def test_a_head_without_face_is_refused(head_file, monkeypatch):
    # The detector sees a face in almost anything with eyes, so it is told not to.
    monkeypatch.setattr(embedding.FaceMeshDetector, "__call__", lambda self, rgb: None)
    with pytest.raises(InputError, match="no face is recognised"):
        embed_landmarks(load_head_model(head_file))
