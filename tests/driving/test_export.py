"""Exports of an avatar."""

from __future__ import annotations

import csv

import numpy as np
import torch

from partnerface_ns.driving.export import export_meshes, export_parts, export_track
from partnerface_ns.flame.open_head import load_open_head


def test_meshes_are_the_posed_person(player, capture, tmp_path):
    export_meshes(tmp_path / "out", player, capture.track[:2])
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["00000.obj", "00001.obj", "LICENSE_OF_THE_MESH.txt"]
    lines = (tmp_path / "out" / "00001.obj").read_text().splitlines()
    verts = np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)
    faces = np.array([line.split()[1:] for line in lines if line.startswith("f ")], int)
    np.testing.assert_allclose(verts, player.head.pose(capture.track[1]).verts.numpy(), atol=1e-6)
    np.testing.assert_array_equal(faces - 1, player.head.model.faces.numpy())
    assert "its own licence" in (tmp_path / "out" / "LICENSE_OF_THE_MESH.txt").read_text()


def test_the_canonical_mesh_is_coloured(player, tmp_path):
    export_parts(tmp_path / "out", player)
    colors = {}
    for name in ("parts", "colors"):
        header, _, body = (tmp_path / "out" / f"{name}.ply").read_bytes().partition(b"end_header\n")
        num, num_faces = player.head.model.num_verts, len(player.head.model.faces)
        assert f"element vertex {num}\n".encode() in header and f"element face {num_faces}\n".encode() in header
        assert len(body) == 15 * num + 13 * num_faces
        table = np.frombuffer(body[: 15 * num], [("at", "<f4", 3), ("color", "u1", 3)])
        np.testing.assert_allclose(table["at"], player.avatar.skinning.canonical.verts.numpy())
        colors[name] = table["color"]
        triangles = np.frombuffer(body[15 * num :], [("count", "u1"), ("index", "<i4", 3)])
        np.testing.assert_array_equal(triangles["index"], player.head.model.faces.numpy())
    assert len(np.unique(colors["parts"], axis=0)) >= 3 and not np.array_equal(colors["parts"], colors["colors"])


def test_a_track_can_be_read_back(player, capture, tiny_head, tmp_path):
    export_track(tmp_path / "out", player, capture.track, 10.0)
    with (tmp_path / "out" / "track.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[3]["time"]) == 0.3 and len(rows) == len(capture.track)
    assert list(rows[0])[1:5] == list(tiny_head.expression_names) and "eyes_5" in rows[0]
    np.testing.assert_allclose(float(rows[4]["jaw_0"]), float(capture.track.jaw[4, 0]), rtol=1e-5)
    with np.load(tmp_path / "out" / "track.npz", allow_pickle=False) as file:
        assert torch.equal(torch.from_numpy(file["expression"]), capture.track.expression) and file["fps"] == 10


def test_the_open_heads_meshes_are_free(player, tmp_path, monkeypatch):
    monkeypatch.setattr(type(player.head.model), "fingerprint", load_open_head().fingerprint)
    export_meshes(tmp_path, player, player.neutral.stack([player.neutral]))
    assert "CC0" in (tmp_path / "LICENSE_OF_THE_MESH.txt").read_text()
