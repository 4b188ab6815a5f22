"""A raw video as motion; the tracking itself is tested in tests/tracking."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from partnerface_ns.driving import video as video_module
from partnerface_ns.driving.video import kept_frames, motion_of_video
from partnerface_ns.errors import SubjectError


def test_frames_that_could_not_be_tracked_take_the_nearest():
    assert kept_frames(6, [0, 3]).tolist() == [0, 0, 1, 1, 2, 3]


def test_a_video_is_tracked_once_and_keeps_its_length_and_sound(capture, tiny_head, tmp_path, monkeypatch):
    tracked = []
    frames = tuple(replace(f, image_path=tmp_path / f"{f.timestep}.png") for f in capture.frames)

    def tracking(video, root, model, options):
        tracked.append((video, model))
        root.mkdir()
        report = {"frames_total": len(frames) + 1, "left_out": {"2": "no face"}}
        (root / "tracking.json").write_text(json.dumps(report))

    monkeypatch.setattr("partnerface_ns.tracking.pipeline.track_video", tracking)
    monkeypatch.setattr(video_module, "load_capture", lambda root: replace(capture, frames=frames))
    monkeypatch.setattr(video_module, "_rate", lambda video: 30.0)
    for _ in range(2):
        motion = motion_of_video(tmp_path / "me.mp4", tmp_path, tiny_head)
        assert tracked == [(tmp_path / "me.mp4", tiny_head)]
        assert len(motion) == len(frames) + 1 and motion.fps == 30.0 and motion.sound == tmp_path / "me.mp4"
        torch.testing.assert_close(motion.states.jaw[2], capture.track.jaw[1])
        torch.testing.assert_close(motion.states.jaw[3:], capture.track.jaw[2:])
        assert motion.pictures[3] is frames[2] and len(motion.skulls.moving) == len(motion)
    assert "me_tracked" in motion.notes[-1]


def test_a_folder_of_something_else_is_left_alone(tiny_head, tmp_path):
    (tmp_path / "me_tracked").mkdir()
    with pytest.raises(SubjectError, match="not a subject tracked from a video"):
        motion_of_video(tmp_path / "me.mp4", tmp_path, tiny_head)
