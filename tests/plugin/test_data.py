"""The dataparser's cameras and the data manager's batches."""

from __future__ import annotations

import copy

import pytest
import torch

from partnerface_ns.errors import SubjectError
from partnerface_ns.geometry.camera import Intrinsics, rays_through_pixels
from partnerface_ns.plugin.dataparser import FlameDataParserConfig

SIZE = 24
"""Pixels a side of the tiny capture's pictures."""


@pytest.fixture
def parser(subject):
    return FlameDataParserConfig(data=subject).setup()


def test_cameras_see_what_the_captures_cameras_see(parser):
    outputs = parser.get_dataparser_outputs("test")
    camera = outputs.metadata["frames"][1].camera
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    centers = torch.stack([columns, rows], -1).reshape(-1, 2) + 0.5
    intrinsics = Intrinsics(camera.fl_x, camera.fl_y, camera.cx, camera.cy)
    origins, directions = rays_through_pixels(centers, intrinsics, torch.from_numpy(camera.T_world_camera).float())
    bundle = outputs.cameras[1:2].generate_rays(camera_indices=0, keep_shape=True)
    torch.testing.assert_close(bundle.directions.reshape(-1, 3), directions)
    torch.testing.assert_close(bundle.origins.reshape(-1, 3), origins)


def test_cameras_carry_their_timestep_as_columns(parser):
    cameras = parser.get_dataparser_outputs("test").cameras
    assert cameras.metadata["timestep"].tolist() == [[4], [5]]
    torch.testing.assert_close(cameras.times, torch.tensor([[0.8], [1.0]]))


def test_a_monocular_capture_is_watched_on_its_test_frames(parser):
    assert len(parser.get_dataparser_outputs("val").image_filenames) == 2


def test_an_empty_split_is_named(parser):
    recording = parser.recording()
    object.__setattr__(recording.capture, "splits", {**recording.capture.splits, "test": ()})
    with pytest.raises(SubjectError, match="the test split is empty"):
        parser.get_dataparser_outputs("test")


def test_downscaled_pictures_fit_downscaled_cameras(subject, make_config, start):
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
    assert set(rays.metadata["timestep"].flatten().tolist()) <= {0, 1, 2, 3}
    assert batch["image"].shape == (64, 3) and batch["mask"].shape == (64, 1)
    assert torch.equal(rays.directions, again.directions)
    assert not torch.equal(rays.directions, other.directions)
    eval_rays, _ = data.next_eval(1)
    assert eval_rays.metadata["timestep"].unique().tolist() == [5]


def test_the_recording_is_shared_between_datasets(parser):
    metadata = parser.get_dataparser_outputs("train").metadata
    assert copy.deepcopy(metadata)["recording"] is metadata["recording"]
