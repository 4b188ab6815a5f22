"""Parameters fitted to meshes, and conversion of rotations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from format_writers.truth import make_truth
from partnerface_ns.capture.mesh_fit import fit_identity, fit_jaw_and_eyes, read_obj_verts
from partnerface_ns.capture.rotations import axis_angle_from_6d, axis_angle_from_matrix
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.state import HeadState


@pytest.fixture(scope="module")
def truth():
    return make_truth()


def test_an_identity_is_found_although_the_jaw_is_open(truth):
    state = replace(HeadState.neutral(100), jaw=torch.tensor([0.3, 0.0, 0.0]))
    canonical = truth.shaped.pose(state).verts.double().numpy()
    identity = torch.from_numpy(fit_identity(truth.head, canonical))
    result = truth.head.template + truth.head.identity_dirs @ identity
    assert (result - truth.shaped.verts_rest).norm(dim=-1).max() < 1e-4


def test_jaw_and_eyes_are_found_whatever_the_expression(truth):
    still, _ = truth.local()
    meshes = truth.shaped.pose(still).verts.double().numpy()[:3]
    blank = HeadState.neutral(100, (3,))
    fitted, distances = fit_jaw_and_eyes(truth.shaped, replace(blank, expression=still.expression[:3]), meshes)
    torch.testing.assert_close(fitted.jaw, still.jaw[:3], atol=1e-4, rtol=0)
    torch.testing.assert_close(fitted.eyes, still.eyes[:3], atol=1e-4, rtol=0)
    assert distances.max() < 1e-6


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("v 0 0 0\nv 1 1 1\n", "3 vertices"),
        ("v 0 0 0\nv 1 1 1\nv 1 1\n", "three numbers"),
        ("v 0 0 0\nv 1 1 1\nv 1 1 a\n", "three numbers"),
        ("v 0 0 0\nv 1 1 1\nv 1 1 nan\n", "not finite"),
        ("v 0 0 0\nv 1 1 1\nv 1 1 1e99\n", "too large"),
    ],
)
def test_bad_meshes_are_named(tmp_path, text, match):
    (tmp_path / "a.obj").write_text(text)
    with pytest.raises(InputError, match=match):
        read_obj_verts(tmp_path / "a.obj", 3)


def test_meshes_may_contain_more_than_vertices(tmp_path):
    (tmp_path / "a.obj").write_text("# a\nvn 0 0 1\nv 0 0 0 1 1 1\r\nvt 0 0\nv 1 2 -3e-1\nf 1 2 1\n")
    np.testing.assert_array_equal(read_obj_verts(tmp_path / "a.obj", 2), [[0, 0, 0], [1, 2, -0.3]])


def test_six_numbers_are_the_first_two_rows(batch):
    vectors = np.random.default_rng(0).standard_normal((*batch, 3)) * 0.9
    rows = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(*batch, 3, 3)
    scaled = np.concatenate([2.0 * rows[..., 0, :], rows[..., 1, :] + 0.5 * rows[..., 0, :]], -1)
    np.testing.assert_allclose(axis_angle_from_6d(scaled), vectors, atol=1e-12)
    np.testing.assert_allclose(axis_angle_from_matrix(rows), vectors, atol=1e-12)


def test_parallel_rows_are_not_a_rotation():
    assert np.isnan(axis_angle_from_6d(np.array([1.0, 0, 0, 2, 0, 0]))).all()
    assert np.isnan(axis_angle_from_6d(np.zeros(6))).all()
