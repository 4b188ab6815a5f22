"""The VHAP layout: reading, refusals and writing."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from format_writers.compare import assert_same
from format_writers.truth import SIZE, make_truth
from format_writers.vhap import write_vhap_export
from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.load import load_capture
from partnerface_ns.capture.vhap_writer import write_vhap
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera


@pytest.fixture(scope="module")
def truth():
    return make_truth(neck=True)


@pytest.fixture(scope="module")
def export(truth, tmp_path_factory):
    return write_vhap_export(tmp_path_factory.mktemp("vhap") / "person", truth)


@pytest.fixture
def broken(export, tmp_path):
    """A copy of the export to break."""
    shutil.copytree(export, tmp_path / "person")
    return tmp_path / "person"


def edit(path: Path, change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def edit_frame(root: Path, **values) -> None:
    """Change (or with None remove) keys of the third training frame."""

    def change(document):
        frame = document["frames"][2]
        for key, value in values.items():
            frame.update({key: value}) if value is not None else frame.pop(key)

    edit(root / "transforms_train.json", change)


def edit_params(root: Path, **values) -> None:
    path = root / "flame_param" / "00002.npz"
    arrays = dict(np.load(path)) | values
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def test_an_export_equals_the_tracking(export, truth):
    capture = load_capture(export)
    assert_same(capture, truth)
    assert capture.format == "vhap" and capture.name == "person"
    assert {name: len(indices) for name, indices in capture.splits.items()} == {"train": 5, "val": 0, "test": 3}
    assert [frame.timestep for frame in capture.frames_of("test")] == [5, 6, 7]
    assert capture.background == (1, 1, 1) and capture.frames[0].composited
    assert capture.head_model == HeadModelRef()


def test_several_cameras_share_timesteps_and_val_holds_one_out(truth, tmp_path):
    capture = load_capture(write_vhap_export(tmp_path / "many", truth, num_cameras=3))
    assert_same(capture, truth)
    assert capture.num_timesteps == 8 and len(capture.frames) == 24
    assert {frame.camera_index for frame in capture.frames_of("val")} == {2}
    assert {frame.camera_index for frame in capture.frames_of("train")} == {0, 1}
    assert len(capture.states_of("train")) == 5


def test_offsets_of_appended_teeth_are_removed(truth, tmp_path):
    capture = load_capture(write_vhap_export(tmp_path / "teeth", truth, teeth=True))
    assert capture.static_offset.shape == (5023, 3)
    assert_same(capture, truth)


def test_a_combined_set_points_to_the_folders_beside_it(export, broken, truth):
    union = broken.parent / "UNION10_person"
    union.mkdir()
    for split in ("train", "val", "test"):

        def relocate(document):
            for frame in document["frames"]:
                del frame["timestep_id"]
                for key in ("file_path", "fg_mask_path", "flame_param_path"):
                    frame[key] = f"../person/{frame[key]}"

        shutil.copy(broken / f"transforms_{split}.json", union)
        edit(union / f"transforms_{split}.json", relocate)
    assert_same(load_capture(union), truth)
    union.rename(broken.parent / "other")
    with pytest.raises(InputError, match="outside the capture folder"):
        load_capture(broken.parent / "other")


def test_frames_without_a_face_are_skipped_and_counted(broken, truth):
    edit_frame(broken, flame_param_path=None)
    capture = load_capture(broken)
    assert capture.skipped == {"images/00002_00.png": "no face was found"}
    assert [frame.timestep for frame in capture.frames] == list(range(7)), "timesteps have no gap"
    assert_same(capture, truth, {t: t + (t >= 2) for t in range(7)})


def test_a_uniform_background_is_detected_and_other_images_are_composited(broken, truth):
    capture = load_capture(broken)
    np.testing.assert_array_equal(load_image(capture.frames[0], (1.0, 1.0, 1.0))[1], truth.mask[0])
    for t in range(8):
        Image.fromarray(np.where(truth.mask[t][..., None] > 0, truth.rgb[t], 0)).save(
            broken / "images" / f"{t:05d}_00.png"
        )
    assert load_capture(broken).background == (0, 0, 0)
    for t in range(8):
        Image.fromarray(truth.rgb[t]).save(broken / "images" / f"{t:05d}_00.png")
    capture = load_capture(broken)
    assert capture.background is None
    rgb, _ = load_image(capture.frames[3], (0.0, 1.0, 0.0))
    np.testing.assert_array_equal(rgb, np.where(truth.mask[3][..., None] > 0, truth.rgb[3], [0, 255, 0]))


BAD_FRAMES = {
    "a key is missing": {"file_path": None},
    "no matrix": {"transform_matrix": [[1, 0, 0, 0]] * 3},
    "text in the matrix": {"transform_matrix": [["1", 0, 0, 0]] * 4},
    "scaled matrix": {"transform_matrix": (np.diag([2.0, 2, 2, 1])).tolist()},
    "mirrored matrix": {"transform_matrix": (np.diag([1.0, 1, -1, 1])).tolist()},
    "no focal length": {"fl_x": 0},
    "focal length is text": {"fl_x": "128"},
    "huge number": {"cx": 10**400},
    "size is no number": {"w": True},
    "another size": {"w": SIZE + 1},
    "missing image": {"file_path": "images/nothing.png"},
    "missing parameters": {"flame_param_path": "flame_param/99999.npz"},
    "absolute path": {"file_path": "/etc/hostname"},
    "path that leads out": {"fg_mask_path": "../../secret.png"},
    "path of zero bytes": {"file_path": "images/\0.png"},
    "path of half a character": {"file_path": "images/\ud800.png"},
    "path is a list": {"file_path": ["images/00000_00.png"]},
    "timestep is text": {"timestep_index": "two"},
    "half a timestep": {"timestep_index": 1.5},
}


@pytest.mark.parametrize("values", BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_a_bad_frame_is_named(broken, values):
    edit_frame(broken, **values)
    with pytest.raises(InputError) as error:
        load_capture(broken)
    (key,) = values
    message = str(error.value)
    assert f"frames[2].{key}" in message or "another size" in message
    assert "transforms_train.json" in message or "00002_00.png" in message


BAD_PARAMS = {
    "offsets of a later frame": {"static_offset": np.full((1, 5023, 3), 0.01)},
    "offsets of some frames": {"static_offset": None},
    "text that is not used": {"dynamic_offset": np.array(["a"])},
    "missing": {"expr": None},
    "NaN": {"jaw_pose": np.array([[0, np.nan, 0]])},
    "infinite": {"translation": np.array([[0, np.inf, 0]])},
    "wrong shape": {"eyes_pose": np.zeros((1, 3))},
    "two rows": {"rotation": np.zeros((2, 3))},
    "text": {"neck_pose": np.array([["a", "b", "c"]])},
    "objects": {"neck_pose": np.array([[{}, {}, {}]], dtype=object)},
    "another count": {"expr": np.zeros((1, 50))},
    "another person": {"shape": np.ones(300)},
    "huge": {"expr": np.full((1, 100), 1e30)},
}


@pytest.mark.parametrize("values", BAD_PARAMS.values(), ids=BAD_PARAMS)
def test_bad_parameters_are_named(broken, values):
    edit_params(broken, **values)
    with pytest.raises(InputError, match=r"00002\.npz") as error:
        load_capture(broken)
    assert next(iter(values)) in str(error.value) or "coefficients" in str(error.value)


def test_broken_files_are_named(broken):
    def refused(path: Path, content: bytes, match: str) -> None:
        whole = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(InputError, match=match) as error:
            load_capture(broken)
        assert path.name in str(error.value)
        path.write_bytes(whole)

    image, params = broken / "images" / "00001_00.png", broken / "flame_param" / "00001.npz"
    refused(image, image.read_bytes()[:-40], "truncated")
    refused(image, b"no image", "not a PNG or JPEG")
    refused(image, b"", "empty")
    refused(params, params.read_bytes()[: params.stat().st_size // 2], "cannot be|can be read")
    refused(broken / "transforms_test.json", b'{"frames": [', "not a JSON file")
    refused(broken / "transforms_test.json", b"[" * 100_000, "not a JSON file")
    refused(broken / "transforms_test.json", b'{"frames": []}', "the split is empty")
    refused(broken / "transforms_test.json", b'{"frames": {}}', "wrong value")
    refused(broken / "transforms_train.json", b'{"a": [{"b": [0, NaN]}]}', r"\[a\[0\]\.b\[1\]\]: a number")
    refused(broken / "transforms_train.json", b"[]", "wrong value")
    (broken / "transforms_train.json").unlink()
    with pytest.raises(InputError, match=r"transforms_train\.json"):
        load_capture(broken)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_capture(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file"):
        load_capture(tmp_path / "file")


def test_masks_of_another_size_are_named(broken):
    Image.new("L", (SIZE, SIZE - 1)).save(broken / "fg_masks" / "00004_00.png")
    with pytest.raises(InputError, match=r"00004_00\.png: the mask has another size"):
        load_capture(broken)


def test_links_out_of_the_folder_and_loops_are_refused(broken):
    secret = broken.parent / "secret.png"
    shutil.copy(broken / "images" / "00000_00.png", secret)
    for target in (secret, broken / "images" / "loop.png"):
        (broken / "images" / "loop.png").unlink(missing_ok=True)
        os.symlink(target, broken / "images" / "loop.png")
        edit_frame(broken, file_path="images/loop.png")
        with pytest.raises(InputError, match="the path leads"):
            load_capture(broken)


def test_a_background_that_is_no_colour_is_named(broken):
    edit(broken / "transforms_train.json", lambda document: document.update(background=[128, 128, 128]))
    with pytest.raises(InputError, match=r"\[background\](.|\n)*0 to 1"):
        load_capture(broken)


def test_names_of_head_models_are_printable(broken):
    edit(broken / "transforms_train.json", lambda document: document.update(head_model={"name": "a\x1b[2J"}))
    with pytest.raises(InputError, match=r"head_model\.name") as error:
        load_capture(broken)
    assert str(error.value).replace("\n", "").isprintable()


def test_files_without_permission_are_named(broken, monkeypatch):
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "00001" not in str(path) and real(path, mode))
    with pytest.raises(InputError, match="permission"):
        load_capture(broken)
    monkeypatch.setattr(Path, "is_dir", lambda path: os.stat("x" * 5000))
    with pytest.raises(InputError, match=r"cannot be read(.|\n)*name too long"):
        load_capture(broken)


def test_a_pipe_is_refused_without_waiting(broken):
    os.mkfifo(broken / "images" / "pipe.png")
    edit_frame(broken, file_path="images/pipe.png")
    with pytest.raises(InputError, match="does not exist"):
        load_capture(broken)


# -- writing -----------------------------------------------------------------------------------------------------


def tiny_capture(head, num: int = 4, background=None) -> tuple[Capture, list[tuple[np.ndarray, np.ndarray]]]:
    rng = np.random.default_rng(3)
    random = lambda size: torch.from_numpy(rng.standard_normal((num, size)).astype(np.float32))  # noqa: E731
    track = HeadState(random(head.num_expr), random(3), random(3), random(3), random(6), random(3))
    T = np.eye(4)
    T[:3, 3] = [0.1, 0.2, 1]
    frames = tuple(
        Frame(t, c, Camera(T, 30.5 + c, 31.0, 8.25, 6.0, 16, 12), None, None) for t in range(num) for c in (0, 1)
    )
    splits = {"train": (0, 1, 2), "val": (), "test": (6, 7)}
    identity, offset = random(head.num_identity)[0], 0.01 * torch.randn(head.num_verts, 3)
    capture = Capture(Path(), "x", HeadModelRef(), identity, offset, track, frames, splits, background=background)
    images = [(rng.integers(0, 255, (12, 16, 3), np.uint8), rng.integers(0, 255, (12, 16), np.uint8)) for _ in frames]
    return capture, images


@pytest.mark.parametrize("background", [None, (0.5, 0.25, 1.0)])
def test_a_written_capture_round_trips(tiny_head, tmp_path, background):
    capture, images = tiny_capture(tiny_head, background=background)
    write_vhap(tmp_path / "out", capture, tiny_head, iter(images))
    read = load_capture(tmp_path / "out")
    kept = [0, 1, 2, 6, 7]
    assert read.head_model == HeadModelRef("tiny", tiny_head.fingerprint)
    assert read.background == background
    torch.testing.assert_close(read.identity, capture.identity)
    torch.testing.assert_close(read.static_offset, capture.static_offset)
    torch.testing.assert_close(read.track.full_pose, capture.track.full_pose[[0, 1, 3]])
    torch.testing.assert_close(read.track.translation, capture.track.translation[[0, 1, 3]])
    torch.testing.assert_close(read.track.expression, capture.track.expression[[0, 1, 3]])
    assert [len(read.splits[s]) for s in ("train", "val", "test")] == [3, 0, 2]
    for frame, index in zip(read.frames, kept, strict=True):
        expected = capture.frames[index].camera
        np.testing.assert_array_equal(frame.camera.T_world_camera, expected.T_world_camera)
        assert replace(frame.camera, T_world_camera=expected.T_world_camera) == expected
        rgb, mask = load_image(frame, background or (0.0, 0.0, 0.0))
        np.testing.assert_array_equal(mask, images[index][1])
        if background is not None:
            np.testing.assert_array_equal(rgb, images[index][0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "tiny_head.npz"], "nothing partial is left"


def test_a_written_torso_round_trips(tiny_head, tmp_path):
    capture, images = tiny_capture(tiny_head)
    track = replace(capture.track, torso=torch.randn(len(capture.track), 6))
    write_vhap(tmp_path / "out", replace(capture, track=track), tiny_head, iter(images))
    read = load_capture(tmp_path / "out")
    torch.testing.assert_close(read.track.torso, track.torso[[0, 1, 3]])
    one = np.load(tmp_path / "out" / "flame_param" / "00001.npz")
    np.testing.assert_array_equal(one["torso_rotation"][0], track.torso[1, :3])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"torso_rotation": np.zeros((1, 3))}, r"\[torso_translation\]: a key is missing"),
        (
            {"torso_rotation": np.zeros((1, 2)), "torso_translation": np.zeros((1, 3))},
            r"\[torso_rotation\]: wrong shape",
        ),
        ({"torso_rotation": np.zeros((1, 3)), "torso_translation": np.zeros((1, 3))}, "only some frames have a torso"),
    ],
)
def test_a_torso_belongs_to_all_frames_and_is_whole(broken, arrays, message):
    edit_params(broken, **arrays)
    with pytest.raises(InputError, match=message) as error:
        load_capture(broken)
    assert ".npz" in str(error.value)


def test_no_array_of_the_head_model_is_written(tiny_head, tmp_path):
    capture, images = tiny_capture(tiny_head)
    write_vhap(tmp_path / "out", replace(capture, static_offset=None), tiny_head, images)
    for path in (tmp_path / "out").rglob("*.npz"):
        assert not any(array.size >= tiny_head.num_verts for array in np.load(path).values())


def test_a_writer_that_fails_leaves_nothing_and_never_overwrites(tiny_head, tmp_path):
    capture, images = tiny_capture(tiny_head)
    with pytest.raises(ValueError, match="shorter"):
        write_vhap(tmp_path / "out", capture, tiny_head, images[:-1])
    with pytest.raises(InputError, match="wrong shape or type"):
        write_vhap(tmp_path / "out", capture, tiny_head, [(rgb[1:], mask) for rgb, mask in images])
    assert [p.name for p in tmp_path.iterdir()] == ["tiny_head.npz"]
    write_vhap(tmp_path / "out", capture, tiny_head, images)
    with pytest.raises(InputError, match="something here already"):
        write_vhap(tmp_path / "out", capture, tiny_head, images)


def test_splits_must_agree_on_the_head_model(tiny_head, tmp_path):
    capture, images = tiny_capture(tiny_head)
    write_vhap(tmp_path / "out", capture, tiny_head, images)
    edit(tmp_path / "out" / "transforms_test.json", lambda d: d["head_model"].update(fingerprint="0"))
    with pytest.raises(InputError, match="another head model than the other splits"):
        load_capture(tmp_path / "out")
