"""Meshes of glasses, hair and shirt: closed, outward and clear of the face."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.demo import props
from partnerface_ns.demo.face_map import Anchors
from partnerface_ns.demo.props import HAIR_STYLES, Mesh
from partnerface_ns.flame.open_head import load_open_head

HEAD = load_open_head()
VERTS = HEAD.template.numpy()
ANCHORS = Anchors.measure(HEAD, VERTS)


def volume(mesh: Mesh) -> float:
    a, b, c = (mesh.verts[mesh.faces[:, i]].astype(float) for i in range(3))
    return float(np.einsum("fi,fi->f", a, np.cross(b, c)).sum() / 6)


def face_normals(mesh: Mesh) -> np.ndarray:
    a, b, c = (mesh.verts[mesh.faces[:, i]] for i in range(3))
    return np.cross(b - a, c - a)


def test_anchors_are_on_their_features():
    left, right = ANCHORS.eyes
    assert left[0] > 0.02 and right[0] < -0.02 and abs(left[1] - right[1]) < 1e-3
    assert 0.01 < ANCHORS.eye_radius < 0.02
    assert ANCHORS.mouth[1] < ANCHORS.nose_tip[1] < left[1] < ANCHORS.crown_y
    assert ANCHORS.nose_tip[2] > ANCHORS.mouth[2] > left[2] > ANCHORS.ear_top[2]
    assert abs(ANCHORS.nose_tip[0]) < 0.005 and 0.05 < ANCHORS.ear_top[0] < 0.1


@pytest.mark.parametrize("roundness", [2.0, 2.6, 3.6])
def test_glasses_are_in_front_of_the_eyes(roundness):
    frame, lenses = props.glasses(ANCHORS, roundness)
    left = lenses.verts[lenses.verts[:, 0] > 0]
    assert (left[:, :2].min(0) < ANCHORS.eyes[0, :2]).all() and (left[:, :2].max(0) > ANCHORS.eyes[0, :2]).all()
    assert left[:, 2].min() > ANCHORS.eyes[0, 2] + ANCHORS.eye_radius + 0.003
    assert (face_normals(lenses)[:, 2] > 0).all()
    assert volume(frame) > 0
    mirrored = frame.verts * [-1, 1, 1]
    gaps = np.linalg.norm(mirrored[:, None] - frame.verts[None], axis=-1).min(1)
    assert gaps.max() < 0.002
    assert frame.verts[:, 2].min() < ANCHORS.ear_top[2]


@pytest.mark.parametrize("style", range(len(HAIR_STYLES)))
def test_hair_covers_the_scalp_and_leaves_the_face_free(style):
    mesh = props.hair(HEAD, VERTS, ANCHORS, HAIR_STYLES[style], np.random.default_rng(0))
    centre = np.array([0, ANCHORS.eyes[0, 1] + 0.03, ANCHORS.axis_z])
    used = mesh.verts[np.unique(mesh.faces)]
    middle = mesh.verts[mesh.faces].mean(1) - centre
    normals = face_normals(mesh)
    outward = np.einsum("fi,fi->f", normals, middle) > 0
    area = np.linalg.norm(normals, axis=-1)
    assert area[outward].sum() > 0.97 * area.sum()
    assert ANCHORS.crown_y + 0.005 < used[:, 1].max() < ANCHORS.crown_y + 0.05
    face = (np.abs(used[:, 0]) < 0.04) & (used[:, 2] > ANCHORS.axis_z + 0.05)
    assert used[face, 1].min() > ANCHORS.eyes[0, 1] + 0.015
    assert used[:, 1].min() < ANCHORS.eyes[0, 1] - 0.03  # down to the nape
    assert np.abs(mesh.uv).max() <= 1


def test_the_shirt_surrounds_the_neck():
    root_weights = HEAD.skinning_weights[:, 0].numpy()
    mesh = props.shirt(VERTS, root_weights, np.random.default_rng(0))
    ring = mesh.verts[mesh.uv[:, 1] == 0]
    neck = VERTS[(root_weights > 0.72) & (root_weights < 0.80)]
    middle = neck.mean(0)
    reach = lambda points: np.linalg.norm((points - middle)[:, [0, 2]], axis=-1)  # noqa: E731
    assert reach(ring).min() > 0.5 * reach(neck).max()
    normals = face_normals(mesh)
    middle_of = mesh.verts[mesh.faces].mean(1) - middle
    sides = mesh.uv[mesh.faces[:, 0], 1] > 0.6
    assert (np.einsum("fi,fi->f", normals, middle_of * [1, 0, 1])[sides] > 0).mean() > 0.98
    assert mesh.verts[:, 1].min() < -0.3 and np.abs(mesh.verts[:, 0]).max() > 0.17


def test_joined_meshes_keep_their_triangles():
    triangle = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]]), np.zeros((3, 2), np.float32))
    joined = Mesh.join([triangle, triangle])
    assert joined.faces.tolist() == [[0, 1, 2], [3, 4, 5]] and len(joined.verts) == len(joined.uv) == 6


def test_lock_noise_has_unit_deviation_and_wraps_around():
    streaks = props.lock_noise(np.random.default_rng(0), (64, 128), 0.7, (9.0, 1.5))
    assert abs(streaks.mean()) < 1e-6 and abs(streaks.std() - 1) < 1e-6
    along, across = np.abs(np.diff(streaks, axis=0)).mean(), np.abs(np.diff(streaks, axis=1)).mean()
    assert across > 2 * along
    seam = np.abs(streaks[:, 0] - streaks[:, -1]).mean()
    assert seam < 2 * across
