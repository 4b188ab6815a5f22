"""No image is in two splits, and validation is held out from training."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from format_writers.flame_head_tracker import write_flame_head_tracker
from format_writers.truth import make_truth
from format_writers.vhap import write_vhap_export, write_vhap_tracks
from partnerface_ns.capture.held_out import (
    FEW_TIMESTEPS,
    hold_out_validation,
    require_trainable,
    separate_splits,
    training_warning,
)
from partnerface_ns.capture.load import load_capture
from partnerface_ns.common.errors import InputError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_vhap_export(tmp_path_factory.mktemp("held_out") / "person", make_truth())


@pytest.fixture
def capture(root):
    return load_capture(root)


def split_so(capture, train, val, test):
    return replace(capture, splits={"train": tuple(train), "val": tuple(val), "test": tuple(test)})


def test_separate_splits_stay_the_same(capture):
    assert separate_splits(capture) == capture and not capture.warnings


def test_an_image_that_is_listed_twice_is_held_out_and_named(capture):
    result = separate_splits(split_so(capture, range(5), (), range(3, 8)))
    assert result.splits == {"train": (0, 1, 2), "val": (), "test": (3, 4, 5, 6, 7)}
    assert result.warnings == (
        "2 of 5 training images are held out for evaluation too (the first: 00003_00.png): they are not trained on",
    )


def test_a_copy_under_another_name_is_the_same_image(root, tmp_path):
    shutil.copytree(root, tmp_path / "person")
    for old, new in ((1, 5), (4, 7)):
        shutil.copy(tmp_path / f"person/images/{old:05d}_00.png", tmp_path / f"person/images/{new:05d}_00.png")
    result = load_capture(tmp_path / "person")
    assert [frame.timestep for frame in result.frames_of("train")] == [0, 2, 3]
    assert len(result.frames_of("test")) == 3
    assert "2 of 5 training images" in result.warnings[0] and "00001_00.png is 00005_00.png" in result.warnings[0]


def test_a_timestep_that_was_saved_twice_is_the_same_image(capture):
    """Two files of other content; another camera at the same time is another image."""
    frames = list(capture.frames)
    frames[5] = replace(frames[5], timestep=frames[1].timestep)
    frames[6] = replace(frames[6], timestep=frames[2].timestep, camera_index=1)
    result = separate_splits(split_so(replace(capture, frames=tuple(frames)), range(5), (), range(5, 8)))
    assert result.splits == {"train": (0, 2, 3, 4), "val": (), "test": (5, 6, 7)}
    assert "1 of 5 training images" in result.warnings[0] and "00001_00.png is 00005_00.png" in result.warnings[0]


def test_files_of_one_size_are_not_the_same_image(tmp_path):
    """Uncompressed npz files have equal sizes."""
    result = load_capture(write_flame_head_tracker(tmp_path / "a", make_truth(), list(range(8))))
    assert len({frame.image_path.stat().st_size for frame in result.frames}) < len(result.frames)
    assert not result.warnings and len(result.splits["train"]) == 6
    shutil.copy(tmp_path / "a" / "2.npz", tmp_path / "a" / "7.npz")
    assert "1 of 6 training images" in load_capture(tmp_path / "a").warnings[0]


def test_test_images_do_not_validate_and_validation_images_do_not_train(capture):
    result = separate_splits(split_so(capture, range(5), (4, 5, 6), (6, 7)))
    assert result.splits == {"train": (0, 1, 2, 3), "val": (4, 5), "test": (6, 7)}
    assert any("1 of 3 validation images are test images" in note for note in result.notes)
    assert "1 of 5 training images" in result.warnings[0]


def test_nothing_left_to_train_on_is_refused(capture):
    with pytest.raises(InputError, match=r"all training images(.|\n)*00005_00\.png"):
        separate_splits(split_so(capture, (5, 6), (), (5, 6, 7)))


def test_a_motion_without_images_has_no_duplicates(tmp_path):
    write_vhap_tracks(tmp_path, make_truth())
    result = load_capture(tmp_path)
    assert len(result.splits["train"]) == len(result.splits["test"]) == 8 and not result.warnings


def test_validation_is_the_end_of_training_and_never_test(capture):
    result = hold_out_validation(capture)
    assert result.splits == {"train": (0, 1, 2, 3), "val": (4,), "test": (5, 6, 7)}
    assert result.notes[-1] == "no validation split: the last 1 of 5 training timesteps are held out for it"
    own = split_so(capture, range(4), (4,), range(5, 8))
    assert hold_out_validation(own) is own


def test_validation_takes_a_twentieth_and_all_cameras_of_it(tmp_path):
    many = load_capture(write_vhap_export(tmp_path / "many", make_truth(40), num_train=40 - 3, num_cameras=2))
    merged = replace(many, splits={**many.splits, "val": ()})
    result = hold_out_validation(merged)
    steps = [{frame.timestep for frame in result.frames_of(split)} for split in ("train", "val", "test")]
    assert steps == [set(range(35)), {35, 36}, {37, 38, 39}]


@pytest.mark.parametrize(("count", "fine"), [(1, False), (2, True)])
def test_one_frame_is_not_enough_for_training(capture, count, fine):
    few = split_so(capture, range(count), (), range(5, 8))
    assert f"few training timesteps ({count})" in training_warning(few)
    if fine:
        require_trainable(few)
    else:
        with pytest.raises(InputError, match=r"\[train\](.|\n)*found: +1"):
            require_trainable(few)


def test_the_error_for_two_frames_says_that_one_is_held_out(capture):
    with pytest.raises(InputError, match=r"found: +1, and 1 for validation"):
        require_trainable(hold_out_validation(split_so(capture, range(2), (), range(5, 8))))


def test_enough_frames_give_no_warning(tmp_path):
    enough = load_capture(write_vhap_export(tmp_path / "a", make_truth(FEW_TIMESTEPS + 2), num_train=FEW_TIMESTEPS))
    assert training_warning(enough) is None
