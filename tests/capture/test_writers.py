"""Captures written in other layouts and read again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from format_writers.compare import VERTS_TOLERANCE, errors_of
from format_writers.truth import flame_like_arrays, make_truth
from format_writers.vhap import write_vhap_export
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.imavatar_writer import write_imavatar
from partnerface_ns.capture.insta_writer import write_insta
from partnerface_ns.capture.load import load_capture
from partnerface_ns.common.errors import InputError


@pytest.fixture(scope="module")
def truth():
    return make_truth()


@pytest.fixture(scope="module")
def capture(truth, tmp_path_factory):
    return load_capture(write_vhap_export(tmp_path_factory.mktemp("a") / "person", truth))


def images(truth):
    return zip(truth.rgb, truth.mask, strict=True)


def assert_images(capture, truth):
    for frame in capture.frames:
        rgb, mask = load_image(frame, (1.0, 1.0, 1.0))
        np.testing.assert_array_equal(mask, truth.mask[frame.timestep])
        np.testing.assert_array_equal(rgb[mask > 0], truth.rgb[frame.timestep][mask > 0])


def test_imavatar_round_trips(capture, truth, tmp_path):
    write_imavatar(tmp_path / "out", capture, truth.head, images(truth))
    again = load_capture(tmp_path / "out")
    metres, pixels = errors_of(again, truth, {t: (t + 5) % 8 if t >= 3 else t + 5 for t in range(8)})
    assert again.format == "imavatar"
    assert [len(again.splits[s]) for s in ("train", "test")] == [5, 3]
    assert metres < VERTS_TOLERANCE and pixels < 0.05


def test_insta_round_trips(capture, truth, tmp_path):
    write_insta(tmp_path / "out", capture, truth.head, images(truth))
    again = load_capture(tmp_path / "out")
    metres, pixels = errors_of(again, truth)
    assert again.format == "insta" and metres < VERTS_TOLERANCE and pixels < 0.05
    assert again.splits == {"train": tuple(range(5)), "val": (), "test": (5, 6, 7)}, "INSTA validates on test images"
    assert_images(again, truth)
    depth = np.array(Image.open(tmp_path / "out" / "depth" / "00003.png"))
    seen = depth[depth > 0] / 1000
    true = -truth.verts_in_camera()[3][:, 2]
    assert depth.dtype in (np.uint16, np.int32) and true.min() - 0.01 < seen.min() and seen.max() < true.max()
    assert ((depth > 0) == (truth.mask[3] > 0)).mean() > 0.97


def test_insta_loses_the_necks_bend_from_text_files_but_not_from_meshes(tmp_path):
    truth = make_truth(neck=True)
    capture = load_capture(write_vhap_export(tmp_path / "in", truth))
    write_insta(tmp_path / "out", capture, truth.head, images(truth))
    head = truth.head.regions["head"] > 0.5
    skull = (truth.head.skinning_weights[:, 1:].sum(-1) > 0.999) & head
    expected = truth.verts_in_camera()
    still = load_capture(tmp_path / "out")
    posed = truth.shaped.pose(still.track).verts.double().numpy()
    for t, frame in enumerate(still.frames):
        T = frame.camera.T_world_camera
        off = np.linalg.norm((posed[t] - T[:3, 3]) @ T[:3, :3] - expected[t], axis=-1)
        assert off[skull.numpy()].max() < 1e-3, "pose correctives of the neck"
        assert off.max() < 0.05
    lines = [line for line in (tmp_path / "out/meshes/00002.obj").read_text().splitlines() if line.startswith("v ")]
    mesh = np.array([line.split()[1:] for line in lines], dtype=float)
    T = still.frames[2].camera.T_world_camera
    assert np.abs((mesh - T[:3, 3]) @ T[:3, :3] - expected[2]).max() < VERTS_TOLERANCE


def test_insta_meshes_can_be_fitted_again(capture, truth, tmp_path):
    write_insta(tmp_path / "out", capture, truth.head, images(truth))
    for path in (tmp_path / "out/flame/jaw").iterdir():
        path.unlink()
    np.savez(tmp_path / "flame.npz", **flame_like_arrays())
    metres, _ = errors_of(load_capture(tmp_path / "out", head_model=tmp_path / "flame.npz"), truth)
    assert metres < VERTS_TOLERANCE


def test_captures_that_imavatar_cannot_store_are_refused(capture, truth, tiny_head, tmp_path):
    with pytest.raises(InputError, match="FLAME's coefficients"):
        write_imavatar(tmp_path / "out", capture, tiny_head, images(truth))
    frames = list(capture.frames)
    frames[3] = replace(frames[3], camera=replace(frames[3].camera, fl_x=50.0))
    with pytest.raises(InputError, match="one camera's intrinsics"):
        write_imavatar(tmp_path / "out", replace(capture, frames=tuple(frames)), truth.head, images(truth))
    assert not (tmp_path / "out").exists()


def test_the_layouts_conventions_are_kept(capture, truth, tmp_path):
    write_imavatar(tmp_path / "im", capture, truth.head, images(truth))
    document = json.loads((tmp_path / "im/train/flame_params.json").read_text())
    assert document["intrinsics"][0] < 0 and len(document["shape_params"]) == 100
    frame = document["frames"][0]
    assert frame["file_path"] == "./image/1" and len(frame["expression"]) == 50 and len(frame["pose"]) == 15
    assert np.linalg.det(np.array(frame["world_mat"])[:, :3]) == pytest.approx(1)
    assert frame["world_mat"][2][3] < -3, "four times a metre away"
    assert 0 <= frame["bbox"][0] < frame["bbox"][2] <= 1
    write_insta(tmp_path / "in", capture, truth.head, images(truth))
    document = json.loads((tmp_path / "in/transforms_train.json").read_text())
    assert isinstance(document["w"], float)
    assert np.array(document["frames"][0]["transform_matrix"])[2, 2] < -0.5, "OpenCV's axes look along z"
    assert len((tmp_path / "in/flame/exp/00000.txt").read_text().split()) == 100
