"""Every layout of the same person gives the same cameras, vertices and projected landmarks."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from format_writers.compare import assert_same, errors_of
from format_writers.flame_head_tracker import write_flame_head_tracker
from format_writers.imavatar import write_imavatar
from format_writers.insta import write_insta
from format_writers.layouts import LAYOUTS
from format_writers.metrical_tracker import write_flashavatar, write_metrical_tracker
from format_writers.truth import flame_like_arrays, make_truth
from format_writers.vhap import write_vhap_export, write_vhap_tracks
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.imavatar import FILE_NAME
from partnerface_ns.capture.load import load_capture
from partnerface_ns.capture.names import CaptureFormat
from partnerface_ns.capture.splits import split_off_last
from partnerface_ns.common.errors import InputError

GREEN = (0.0, 1.0, 0.0)


@pytest.fixture(scope="module")
def truth():
    return make_truth()


@pytest.fixture(scope="module")
def head_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "flame.npz"
    np.savez(path, **flame_like_arrays())
    return path


def counts(capture):
    return {name: len(indices) for name, indices in capture.splits.items()}


def assert_images(capture, truth, masked=True):
    """Check every frame's image, composited on green if the layout has masks."""
    for frame in capture.frames:
        rgb, mask = load_image(frame, GREEN)
        expected = truth.mask[frame.timestep] if masked else np.full_like(mask, 255)
        np.testing.assert_array_equal(mask, expected)
        np.testing.assert_array_equal(rgb, np.where(expected[..., None] > 0, truth.rgb[frame.timestep], [0, 255, 0]))


def test_metrical_tracker(truth, tmp_path):
    capture = load_capture(write_metrical_tracker(tmp_path / "a", truth))
    assert_same(capture, truth)
    assert_images(capture, truth, masked=False)
    assert capture.format == "metrical-tracker" and counts(capture) == {"train": 6, "val": 0, "test": 2}
    assert capture.head_model.name == "FLAME 2020"
    assert not any("eyelid" in note for note in capture.notes)
    assert any("eyelid" in n for n in load_capture(write_metrical_tracker(tmp_path / "b", truth, eyelids=0.5)).notes)


@pytest.mark.parametrize("parameters", ["txt", "frame"])
def test_insta_with_parameters(truth, tmp_path, parameters):
    capture = load_capture(write_insta(tmp_path / "a", truth, parameters=parameters))
    assert_same(capture, truth)
    assert_images(capture, truth)
    assert capture.format == "insta" and counts(capture) == {"train": 5, "val": 0, "test": 3}
    assert any("validation images are test images" in note for note in capture.notes)


def test_insta_with_meshes_alone_is_fitted(truth, tmp_path, head_path):
    capture = load_capture(write_insta(tmp_path / "a", truth), head_model=head_path)
    metres, pixels = errors_of(capture, truth)
    assert metres < 1e-4 and pixels < 0.05, "as good as the parameters themselves, where meshes are FLAME's"
    assert (capture.track.jaw - truth.track.jaw).abs().max() < 2e-3
    assert (capture.track.eyes - truth.track.eyes).abs().max() < 1e-3
    assert "fitted" in capture.notes[0]


def test_insta_with_meshes_alone_needs_the_head_model(truth, tmp_path, head_path):
    root = write_insta(tmp_path / "a", truth)
    with pytest.raises(InputError, match="--head-model FILE"):
        load_capture(root)
    np.savez(tmp_path / "other.npz", **flame_like_arrays(seed=1))
    with pytest.raises(InputError, match="does not explain the mesh"):
        load_capture(root, head_model=tmp_path / "other.npz")


def test_a_missing_mesh_is_named_before_any_is_fitted(truth, tmp_path, head_path, monkeypatch):
    root = write_insta(tmp_path / "a", truth)
    (root / "meshes" / "00007.obj").unlink()
    monkeypatch.setattr("partnerface_ns.capture.insta.fit_identity", lambda *_: pytest.fail("it fits already"))
    with pytest.raises(InputError, match=r"mesh_path(.|\n)*00007\.obj"):
        load_capture(root, head_model=head_path)


def test_insta_without_split_files_holds_out_the_end(truth, tmp_path):
    root = write_insta(tmp_path / "a", truth, parameters="txt")
    for split in ("train", "test", "val"):
        (root / f"transforms_{split}.json").unlink()
    capture = load_capture(root)
    assert counts(capture) == {"train": 6, "val": 0, "test": 2}
    assert_same(capture, truth)


@pytest.mark.parametrize("mirrored", [False, True])
def test_imavatar(tmp_path, mirrored):
    truth = make_truth(neck=True)
    videos = {"MVI_1": range(5), "MVI_2": range(5, 8)}
    capture = load_capture(write_imavatar(tmp_path / "a", truth, videos, mirrored))
    assert_same(capture, truth)
    assert_images(capture, truth)
    assert capture.format == "imavatar" and counts(capture) == {"train": 5, "val": 0, "test": 3}
    single = load_capture(tmp_path / "a" / "MVI_1")
    assert counts(single) == {"train": 4, "val": 0, "test": 1}
    assert_same(single, truth)


def test_imavatar_a_missing_mask_and_an_empty_video_are_named(truth, tmp_path):
    root = write_imavatar(tmp_path / "a", truth, {"v": range(5), "w": range(5, 8)})
    (root / "v" / "mask" / "3.png").rename(root / "v" / "mask" / "three.png")
    with pytest.raises(InputError, match=r"frames\[2\](.|\n)*mask/3\.png"):
        load_capture(root)
    shutil.rmtree(root / "v" / "mask")
    assert load_capture(root).frames[0].mask_path is None, "a video may have no masks at all"
    path = root / "v" / FILE_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"frames": []}))
    with pytest.raises(InputError, match="the video is empty"):
        load_capture(root)


def test_insta_a_image_with_two_poses_is_named(truth, tmp_path):
    path = write_insta(tmp_path / "a", truth, parameters="txt") / "transforms_train.json"
    path.write_text(path.read_text().replace("images/00002.png", "images/00001.png"))
    with pytest.raises(InputError, match=r"frames\[2\]\.file_path"):
        load_capture(tmp_path / "a")


def test_imavatar_videos_named_test_are_held_out(truth, tmp_path):
    videos = {"MVI_test": range(2), "MVI_train": range(2, 8)}
    capture = load_capture(write_imavatar(tmp_path / "a", truth, videos))
    assert counts(capture) == {"train": 6, "val": 0, "test": 2}
    assert capture.frames_of("test")[0].timestep == 0


def test_imavatar_intrinsics_in_pixels_mean_512(truth, tmp_path):
    root = write_imavatar(tmp_path / "a", truth, {"v": range(8)})
    path = root / "v" / "flame_params.json"
    values = [-truth.focal[0] * 8, truth.focal[1] * 8, truth.center[0] * 8, truth.center[1] * 8]
    path.write_text(re.sub(r'"intrinsics": \[.*?\]', f'"intrinsics": {values}', path.read_text()))
    assert_same(load_capture(root), truth)


def test_flame_head_tracker(tmp_path):
    truth = make_truth(neck=True)
    numbers = [0, 1, 2, 5, 9, 10, 11, 100]
    capture = load_capture(write_flame_head_tracker(tmp_path / "a", truth, numbers))
    assert_same(capture, truth)
    assert_images(capture, truth)
    assert capture.format == "flame-head-tracker" and counts(capture) == {"train": 6, "val": 0, "test": 2}
    assert len(capture.skipped) == 93 and "3.npz" in capture.skipped


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("parsing", np.full((1, 64, 64), "a")),
        ("img", np.full((1, 64, 64, 3), np.nan)),
        ("K", np.array([[[100, 0, 1e5], [0, 100, 0], [0, 0, 1.0]]])),
    ],
)
def test_flame_head_tracker_bad_values_are_named(truth, tmp_path, key, value):
    root = write_flame_head_tracker(tmp_path / "a", truth, list(range(8)))
    np.savez(root / "3.npz", **(dict(np.load(root / "3.npz")) | {key: value}))
    with pytest.raises(InputError, match=rf"3\.npz \[{key}\]"):
        for frame in load_capture(root).frames:
            load_image(frame, GREEN)


def test_flame_head_tracker_takes_the_mean_of_uneven_identities(truth, tmp_path):
    root = write_flame_head_tracker(tmp_path / "a", truth, list(range(8)))
    arrays = dict(np.load(root / "3.npz"))
    np.savez(root / "3.npz", **(arrays | {"shape": arrays["shape"] + 0.8}))
    capture = load_capture(root)
    np.testing.assert_allclose(capture.identity, truth.identity + 0.1, atol=1e-5)
    assert "mean" in capture.notes[0]


def test_raw_vhap_tracks_drive_without_images(truth, tmp_path):
    write_vhap_tracks(tmp_path, truth)
    capture = load_capture(tmp_path)
    assert capture.format == "vhap-tracker" and capture.num_timesteps == 8
    assert np.array_equal(capture.track.full_pose, truth.track.full_pose)
    assert capture.frames[0].image_path is None
    assert capture.frames[0].camera.T_world_camera[2, 3] == 1, "the head is at the origin, the camera before it"
    last = tmp_path / "tracked_flame_params_30.npz"
    np.savez(last, **(dict(np.load(last)) | {"jaw_pose": np.zeros((7, 3))}))
    with pytest.raises(InputError, match="jaw_pose"):
        load_capture(tmp_path)


def test_a_named_layout_is_read_as_such(truth, tmp_path):
    root = write_insta(tmp_path / "a", truth, parameters="frame")
    shutil.copytree(root / "images", root / "input")
    assert load_capture(root).format == "insta"
    assert_same(load_capture(root, "metrical-tracker"), truth)
    with pytest.raises(InputError, match="flame_params"):
        load_capture(root, "imavatar")


@pytest.mark.parametrize("other", get_args(CaptureFormat))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_read_as_another_is_one_error(truth, tmp_path, layout, other):
    root = LAYOUTS[layout](tmp_path / "a", truth)
    if other != layout.removesuffix("-meshes"):
        with pytest.raises(InputError):
            load_capture(root, other)


@pytest.mark.parametrize(
    ("key", "name"), [("expression", "NerFace"), ("exp_ori", "NeRFBlendShape"), ("aud_id", "AD-NeRF")]
)
def test_captures_without_flame_are_refused_by_name(tmp_path, key, name):
    (tmp_path / "transforms_train.json").write_text(f'{{"frames": [{{"{key}": 0, "transform_matrix": []}}]}}')
    with pytest.raises(InputError, match=f"{name}.*\n.*\n?.*track the video again"):
        load_capture(tmp_path)


def test_cameras_without_a_head_are_refused(tmp_path):
    (tmp_path / "transforms.json").write_text('{"frames": [{"file_path": "a.png"}]}')
    with pytest.raises(InputError, match="no head parameters"):
        load_capture(tmp_path)


def test_an_unknown_folder_says_what_was_looked_for(tmp_path):
    (tmp_path / "holiday.jpg").write_text("")
    with pytest.raises(InputError, match=r"no capture layout(.|\n)*holiday\.jpg"):
        load_capture(tmp_path)


def test_an_unknown_folder_names_every_layout(tmp_path):
    with pytest.raises(InputError) as refusal:
        load_capture(tmp_path)
    assert [name for name in get_args(CaptureFormat) if f"    {name}: " not in str(refusal.value)] == []


def test_long_captures_hold_out_350():
    assert [len(s) for s in split_off_last(2000).values()] == [1650, 0, 350]
    assert [len(s) for s in split_off_last(1000).values()] == [700, 0, 300]


def test_flashavatar_counts_its_images_from_one(truth, tmp_path):
    capture = load_capture(write_flashavatar(tmp_path / "a", truth))
    assert_same(capture, truth)
    assert capture.format == "flashavatar" and counts(capture) == {"train": 6, "val": 0, "test": 2}
    assert [frame.image_path.stem for frame in capture.frames] == [f"{t + 1:05d}" for t in range(8)]
    assert_images(capture, truth)
    (tmp_path / "a" / "alpha" / "00008.png").unlink()
    with pytest.raises(InputError, match=r"00007\.frame"):
        load_capture(tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "alpha")
    assert load_capture(tmp_path / "a").frames[0].mask_path is None


def renamed_without_padding(root: Path, document: dict) -> None:
    """INSTA's images as `images/7.png`, counted from 1."""
    for number, frame in enumerate(document["frames"], 1):
        name = f"images/{number}.png"
        (root / frame["file_path"]).rename(root / name)
        for key in ("exp", "jaw", "eyes", "shape"):
            (root / "flame" / key / f"{Path(frame['file_path']).stem}.txt").rename(root / f"flame/{key}/{number}.txt")
        frame["file_path"] = name


def test_insta_images_without_padding_are_in_the_order_of_their_numbers(tmp_path):
    long = make_truth(12)
    root = write_insta(tmp_path / "a", long, parameters="txt")
    for split in ("train", "test", "val"):
        (root / f"transforms_{split}.json").unlink()
    document = json.loads((root / "transforms.json").read_text())
    renamed_without_padding(root, document)
    (root / "transforms.json").write_text(json.dumps(document))
    capture = load_capture(root)
    assert [int(frame.image_path.stem) for frame in capture.frames] == list(range(1, 13))
    assert_same(capture, long)


@pytest.mark.parametrize("parameters", ["txt", "frame"])
def test_insta_paths_of_windows_are_read(truth, tmp_path, parameters):
    root = write_insta(tmp_path / "a", truth, parameters=parameters)
    for path in root.glob("transforms*.json"):
        path.write_text(path.read_text().replace("images/", "images\\\\"))
    assert_same(load_capture(root), truth)


def test_rotation_by_exif_is_noted(truth, tmp_path):
    root = write_vhap_export(tmp_path / "a", truth)
    assert not load_capture(root).notes
    exif = Image.Exif()
    exif[0x0112] = 3
    path = root / "images" / "00000_00.png"
    Image.open(path).rotate(180).save(path, exif=exif)
    assert load_capture(root).notes == ("images are rotated by their EXIF orientation (00000_00.png: 3)",)


def test_vhap_frames_listed_with_both_slashes_are_the_same(truth, tmp_path):
    root = write_vhap_export(tmp_path / "a", truth)
    path = root / "transforms_test.json"
    listed = json.loads((root / "transforms_train.json").read_text())["frames"][-1]
    listed["file_path"] = listed["file_path"].replace("/", "\\")
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"frames": [*document["frames"], listed]}))
    assert len(load_capture(root).frames) == truth.num_frames


def test_hidden_files_and_folders_are_skipped(truth, tmp_path):
    for layout, write in LAYOUTS.items():
        root = write(tmp_path / layout, truth)
        for folder in [root, *(path for path in root.iterdir() if path.is_dir())]:
            (folder / ".DS_Store").write_bytes(b"\0")
            for path in list(folder.iterdir()):
                if path.is_file():
                    (folder / f"._{path.name}").write_bytes(b"\0\5\x16\7")
        if layout == "imavatar":
            shutil.copytree(root / "first", root / ".first")
        if layout != "insta-meshes":
            assert len(load_capture(root).frames) == truth.num_frames, layout


def test_imavatar_frames_are_in_the_order_of_their_numbers(tmp_path):
    long = make_truth(12)
    root = write_imavatar(tmp_path / "a", long, {"v": range(12)})
    path = root / "v" / FILE_NAME
    document = json.loads(path.read_text())
    document["frames"].sort(key=lambda frame: frame["file_path"])
    path.write_text(json.dumps(document))
    assert_same(load_capture(root), long)


def test_padded_numbers_are_read_and_duplicates_refused(truth, tmp_path):
    root = write_flame_head_tracker(tmp_path / "a", truth, list(range(8)))
    (root / "3.npz").rename(root / "003.npz")
    assert len(load_capture(root).frames) == 8
    shutil.copy(root / "003.npz", root / "3.npz")
    with pytest.raises(InputError, match="two files have the same number"):
        load_capture(root)


def test_vhap_equals_the_other_layouts(truth, tmp_path):
    assert_same(load_capture(write_vhap_export(tmp_path / "a", truth)), truth)
