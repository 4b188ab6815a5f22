"""The work folder of an interrupted run."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.tracking.video.work_folder import WorkFolder


def test_a_work_folder_computes_each_stage_once_and_starts_empty_for_another_video(tmp_path):
    video = tmp_path / "video.mp4"
    video.write_bytes(b"one")
    calls = []

    def make() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"value": np.arange(3)}

    for _ in range(2):
        arrays = WorkFolder(tmp_path / "work", video, {"size": 1}).stage("first", make)
        np.testing.assert_array_equal(arrays["value"], np.arange(3))
    assert len(calls) == 1
    WorkFolder(tmp_path / "work", video, {"size": 2}).stage("first", make)
    video.write_bytes(b"another")
    WorkFolder(tmp_path / "work", video, {"size": 2}).stage("first", make)
    assert len(calls) == 3


def test_a_stage_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "video.mp4").write_bytes(b"one")
    work = WorkFolder(tmp_path / "work", tmp_path / "video.mp4", {})

    def fail() -> dict[str, np.ndarray]:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        work.stage("first", fail)
    assert [p.name for p in work.root.iterdir()] == ["source.json"]
