"""The dataparser's cameras and the data manager's batches."""

from __future__ import annotations

import copy
import shutil

import numpy as np
import pytest
import torch

from partnerface_ns.common.errors import InputError
from partnerface_ns.geometry.camera import rays_through_pixels
from partnerface_ns.plugin.dataparser import FlameDataParserConfig

SIZE = 24
"""Pixels a side of the tiny capture's images."""


@pytest.fixture
def parser(subject):
    return FlameDataParserConfig(data=subject).setup()


def test_cameras_see_what_the_captures_cameras_see(parser):
    outputs = parser.get_dataparser_outputs("test")
    camera = outputs.metadata["frames"][1].camera
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    centers = torch.stack([columns, rows], -1).reshape(-1, 2) + 0.5
    origins, directions = rays_through_pixels(
        centers, camera.intrinsics, torch.from_numpy(camera.T_world_camera).float()
    )
    bundle = outputs.cameras[1:2].generate_rays(camera_indices=0, keep_shape=True)
    torch.testing.assert_close(bundle.directions.reshape(-1, 3), directions)
    torch.testing.assert_close(bundle.origins.reshape(-1, 3), origins)


def test_cameras_carry_their_timestep_as_columns(parser):
    cameras = parser.get_dataparser_outputs("test").cameras
    assert cameras.metadata["timestep"].tolist() == [[4], [5]]
    torch.testing.assert_close(cameras.times, torch.tensor([[0.8], [1.0]]))


def test_a_capture_without_validation_is_watched_on_training_frames_that_do_not_train(parser, capsys):
    names = {split: parser.get_dataparser_outputs(split).image_filenames for split in ("train", "val", "test")}
    assert [len(files) for files in names.values()] == [3, 1, 2]
    assert not set(names["val"]) & {*names["train"], *names["test"]}
    assert "no validation split: the last 1 of 4 training timesteps are held out for it" in capsys.readouterr().out


def test_duplicates_and_few_frames_are_printed_when_a_capture_is_read(head, write_subject, tmp_path, capsys):
    root = write_subject(tmp_path / "subject", head, 6, 2)
    shutil.copy(root / "images" / "00001_00.png", root / "images" / "00007_00.png")
    capture = FlameDataParserConfig(data=root).setup().parse_capture().capture
    printed = capsys.readouterr().out
    assert "Warning: 1 of 6 training images are held out for evaluation too (the first: 00001_00.png is 0000" in printed
    assert "Warning: few training timesteps (4)" in printed
    assert [frame.timestep for frame in capture.frames_of("train")] == [0, 2, 3, 4]


def test_torn_heads_are_left_out_with_a_warning(head, write_subject, tmp_path, capsys):
    root = write_subject(tmp_path / "subject", head, 6, 2)
    path = root / "flame_param" / "00003.npz"
    with np.load(path) as stored:
        np.savez(path, **{**stored, "expr": np.full_like(stored["expr"], 9e4)})
    capture = FlameDataParserConfig(data=root).setup().parse_capture().capture
    assert [frame.timestep for frame in capture.frames_of("train")] == [0, 1, 2, 4]
    assert "Warning: the head is torn in 1 of 8 frames: 00003_00.png" in capsys.readouterr().out


def test_a_single_misplaced_head_is_named_when_training_images_are_read(
    head, write_subject, make_config, start, tmp_path, capsys
):
    root = write_subject(tmp_path / "subject", head, 8, 2)
    data = start(make_config("good", data=root)).pipeline.datamanager
    assert "outside of the mask" not in capsys.readouterr().out
    path = root / "flame_param" / "00003.npz"
    with np.load(path) as stored:
        np.savez(path, **{**stored, "translation": stored["translation"] + 0.15})
    data = start(make_config("bad", data=root)).pipeline.datamanager
    lines = [line for line in capsys.readouterr().out.splitlines() if "outside of the mask" in line]
    assert len(lines) == 1 and f"in 1 of {len(data.train_dataset)} training frames: 00003_00.png." in lines[0]


def test_one_training_frame_is_refused_before_a_run_begins(head, write_subject, make_config, tmp_path):
    root = write_subject(tmp_path / "subject", head, 1, 2)
    with pytest.raises(InputError, match="an avatar cannot be learned from so few frames"):
        make_config(data=root)
    assert not (tmp_path / "out").exists()


def test_an_empty_split_is_named(parser):
    parsed = parser.parse_capture()
    object.__setattr__(parsed.capture, "splits", {**parsed.capture.splits, "test": ()})
    with pytest.raises(InputError, match="the test split is empty"):
        parser.get_dataparser_outputs("test")


def test_downscaled_images_fit_downscaled_cameras(subject, make_config, start):
    config = make_config()
    config.pipeline.datamanager.dataparser.downscale_factor = 2.0
    data = start(config).pipeline.datamanager
    item = data.eval_dataset[0]
    camera = data.eval_dataset.cameras[0]
    assert item["image"].shape == (SIZE // 2, SIZE // 2, 3)
    assert (int(camera.height), int(camera.width)) == (SIZE // 2, SIZE // 2)
    assert float(camera.cx) == SIZE / 4


def test_batches_come_from_few_frames_and_repeat_for_a_step(make_config, start):
    data = start(make_config()).pipeline.datamanager
    rays, batch = data.next_train(3)
    again, _ = data.next_train(3)
    other, _ = data.next_train(4)
    assert rays.metadata["timestep"].unique().numel() == 2
    assert set(rays.metadata["timestep"].flatten().tolist()) <= {0, 1, 2}
    assert batch["image"].shape == (2, 32, 3) and batch["mask"].shape == (2, 32, 1)
    assert torch.equal(rays.directions, again.directions)
    assert not torch.equal(rays.directions, other.directions)
    eval_rays, _ = data.next_eval(1)
    assert eval_rays.metadata["timestep"].unique().tolist() == [3]


def test_the_parsed_capture_is_shared_between_datasets(parser):
    metadata = parser.get_dataparser_outputs("train").metadata
    assert copy.deepcopy(metadata)["parsed_capture"] is metadata["parsed_capture"]
