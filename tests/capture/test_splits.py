"""Splits by time that replace a capture's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from format_writers.truth import make_truth
from format_writers.vhap import write_vhap_export
from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.load import load_capture
from partnerface_ns.capture.splits import EVERY, HELD_OUT, split_by_time
from partnerface_ns.common.errors import InputError


@pytest.fixture(scope="module")
def tiny_capture(tmp_path_factory):
    return load_capture(write_vhap_export(tmp_path_factory.mktemp("splits") / "person", make_truth()))


def with_timesteps(capture: Capture, num: int, num_cameras: int = 1) -> Capture:
    """The capture with this many timesteps, in reverse order, each seen by these cameras."""
    given = capture.frames[0]
    frames = [Frame(t, i, given.camera, None, None) for t in reversed(range(num)) for i in range(num_cameras)]
    own = {"train": (0,), "val": (1,), "test": (2,)}
    return replace(capture, frames=tuple(frames), splits=own)


def timesteps(capture: Capture, split: str) -> list[int]:
    return sorted(frame.timestep for frame in capture.frames_of(split))


@pytest.mark.parametrize(
    ("name", "num", "test"),
    [
        ("last", 10, [7, 8, 9]),
        ("interleaved", 12, [2, 7]),
        ("published", 11, [9, 10]),
        ("published", 3 * HELD_OUT - 1, list(range(840, 1049))),
        ("published", 3 * HELD_OUT, list(range(700, 1050))),
    ],
)
def test_the_test_frames_are_those_of_the_named_split(tiny_capture, name, num, test):
    capture = split_by_time(with_timesteps(tiny_capture, num), name)
    assert timesteps(capture, "test") == test
    assert timesteps(capture, "train") == sorted(set(range(num)) - set(test))
    assert timesteps(capture, "val") == []
    assert any(f"split {name}: {num - len(test)} timesteps" in note for note in capture.notes)


@pytest.mark.parametrize("name", ["last", "interleaved", "published"])
def test_cameras_of_a_timestep_are_in_the_same_split(tiny_capture, name):
    capture = split_by_time(with_timesteps(tiny_capture, 10, num_cameras=3), name)
    train, test = timesteps(capture, "train"), timesteps(capture, "test")
    assert len(train) + len(test) == 30 and not set(train) & set(test)
    assert all(train.count(t) == 3 for t in train) and all(test.count(t) == 3 for t in test)


def test_a_capture_is_read_with_a_named_split(tiny_capture):
    for name in ("last", "interleaved", "published"):
        assert load_capture(tiny_capture.root, split=name).splits == split_by_time(tiny_capture, name).splits
    assert load_capture(tiny_capture.root).splits == tiny_capture.splits


def test_a_capture_that_is_too_short_is_refused(tiny_capture):
    with pytest.raises(InputError, match="too short for the split last"):
        split_by_time(with_timesteps(tiny_capture, EVERY - 1), "last")
