"""A raw video as motion; the tracking itself is tested in tests/tracking."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import imageio_ffmpeg
import numpy as np
import pytest
import torch

from partnerface_ns.capture.vhap_writer import write_vhap
from partnerface_ns.common.errors import InputError
from partnerface_ns.driving import load as load_module
from partnerface_ns.driving.capture_motion import at_video_times, motion_of_capture, nearest_tracked
from partnerface_ns.driving.video import motion_of_video


@pytest.fixture
def tracked(capture, monkeypatch):
    """The videos that were tracked: each into the same capture of 8 frames, of 9 in the video; frame 2 is left out."""
    videos = []

    def tracking(video, root, model, options):
        videos.append((video, video.read_bytes()))
        root.mkdir()
        times = [round(0.04 * i, 6) for i in range(9)]
        (root / "tracking.json").write_text(json.dumps({"left_out": {"2": "no face"}, "frame_times": times}))

    monkeypatch.setattr("partnerface_ns.tracking.pipeline.track_video", tracking)
    monkeypatch.setattr(load_module, "detect_format", lambda root: "vhap")
    monkeypatch.setattr(load_module, "load_capture", lambda root, head_model, as_motion: capture)
    monkeypatch.setattr("partnerface_ns.driving.video._sound_start", lambda video: 0.5)
    return videos


def test_frames_that_could_not_be_tracked_take_the_nearest():
    assert nearest_tracked(6, [0, 3]).tolist() == [0, 0, 1, 1, 2, 3]
    assert nearest_tracked(5, [1, 2, 3]).tolist() == [0, 0, 0, 1, 1]


def test_a_video_is_tracked_once_and_keeps_its_length_and_sound(tracked, capture, tiny_head, tmp_path):
    video = tmp_path / "me.mp4"
    video.write_bytes(b"one")
    for _ in range(2):
        motion = motion_of_video(video, tmp_path, tiny_head)
        assert [path for path, _ in tracked] == [video]
        assert len(motion) == 9 and motion.fps == 25 and motion.sound == video and motion.sound_start == 0.5
        torch.testing.assert_close(motion.states.jaw[2], capture.track.jaw[1])
        torch.testing.assert_close(motion.states.jaw[3:], capture.track.jaw[2:])
        assert len(motion.skulls.moving) == len(motion.cameras) == len(motion)
    assert str(video) in motion.notes[-1] and "me_tracked_" in motion.notes[-1]


def test_a_video_is_known_by_its_content(tracked, tiny_head, tmp_path, capsys):
    """Another video of the same name, and a video written anew, are tracked; the same one under another name is not."""
    (tmp_path / "monday").mkdir()
    (tmp_path / "tuesday").mkdir()
    for folder, content in (("monday", b"one"), ("tuesday", b"two")):
        (tmp_path / folder / "IMG_1.mp4").write_bytes(content)
        motion_of_video(tmp_path / folder / "IMG_1.mp4", tmp_path, tiny_head)
    assert [content for _, content in tracked] == [b"one", b"two"]
    assert "tuesday/IMG_1.mp4: IMG_1_tracked_" in capsys.readouterr().out
    (tmp_path / "monday" / "IMG_1.mp4").write_bytes(b"new")
    motion_of_video(tmp_path / "monday" / "IMG_1.mp4", tmp_path, tiny_head)
    assert len(tracked) == 3 and "belongs to another video, version of it, or head model" in capsys.readouterr().out
    (tmp_path / "copy.mp4").write_bytes(b"two")
    motion = motion_of_video(tmp_path / "copy.mp4", tmp_path, tiny_head)
    assert len(tracked) == 3 and str(tmp_path / "copy.mp4") in motion.notes[-1]


def test_another_head_model_is_tracked_for_itself(tracked, tiny_head, tmp_path):
    (tmp_path / "me.mp4").write_bytes(b"one")
    other = replace(tiny_head, template=tiny_head.template + 0.01)
    assert other.fingerprint != tiny_head.fingerprint
    motion_of_video(tmp_path / "me.mp4", tmp_path, tiny_head)
    with pytest.raises(InputError, match="head model"):  # the stand-in for tracking does not fit it
        motion_of_video(tmp_path / "me.mp4", tmp_path, other)
    assert len(tracked) == 2


def test_a_folder_of_something_else_is_left_alone(tracked, tiny_head, tmp_path):
    (tmp_path / "me.mp4").write_bytes(b"one")
    motion_of_video(tmp_path / "me.mp4", tmp_path, tiny_head)
    (folder,) = tmp_path.glob("me_tracked_*")
    (folder / "tracking.json").unlink()
    with pytest.raises(InputError, match="not a capture tracked from a video"):
        motion_of_video(tmp_path / "me.mp4", tmp_path, tiny_head)


def test_frames_of_a_variable_rate_are_shown_at_their_times(capture, tiny_head, tmp_path):
    """Five a second, then 25 a second: the head of a frame is shown as long as the frame."""
    times = [0.0, 0.2, 0.4, 0.6, 0.64, 0.68, 0.72, 0.76]
    (tmp_path / "tracking.json").write_text(json.dumps({"left_out": {}, "frame_times": times}))
    motion = at_video_times(motion_of_capture(capture, tiny_head), tmp_path, None)
    assert motion.fps == 25 and len(motion) == 20
    shown = [int((motion.states.jaw[k] == capture.track.jaw).all(1).nonzero()[0, 0]) for k in range(20)]
    assert shown == [0] * 5 + [1] * 5 + [2] * 5 + [3, 4, 5, 6, 7]
    fast = at_video_times(motion_of_capture(capture, tiny_head), tmp_path, 50.0)
    assert fast.fps == 50 and len(fast) == 39


def test_a_capture_that_does_not_say_its_rate_says_so(capture, tiny_head, tmp_path):
    motion = at_video_times(motion_of_capture(capture, tiny_head), tmp_path, None)
    assert motion.fps == 25 and "does not state its rate; --fps sets it" in motion.notes[-1]


def test_a_folder_that_was_tracked_keeps_the_times_of_its_video(capture, tiny_head, head_file, tmp_path):
    """Also where it is named instead of its video."""
    images = ((np.full((16, 16, 3), i, np.uint8), np.zeros((16, 16), np.uint8)) for i in range(len(capture.frames)))
    write_vhap(tmp_path / "subject", capture, tiny_head, images)
    report = {"left_out": {}, "frame_times": [i / 60 for i in range(len(capture.frames))]}
    (tmp_path / "subject" / "tracking.json").write_text(json.dumps(report))
    motion = load_module.load_motion(tmp_path / "subject", tiny_head)
    assert motion.fps == 60 and len(motion) == 8
    torch.testing.assert_close(motion.states.jaw, capture.track.jaw)


def test_sound_before_the_first_image_is_not_delayed(tmp_path):
    """Images begin half a second after the sound: that half second belongs to no frame."""
    from partnerface_ns.driving.video import _sound_start

    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    image, tone = ["-f", "lavfi", "-i", "color=s=16x16:r=25:d=1"], ["-f", "lavfi", "-i", "sine=d=1.5"]
    late = [*tone, "-itsoffset", "0.5", *image, "-map", "1:v", "-map", "0:a"]
    for name, sources, start in (("late.mkv", late, 0.5), ("together.mkv", [*tone, *image], 0.0)):
        subprocess.run([ffmpeg, "-v", "error", *sources, tmp_path / name], check=True)
        assert _sound_start(tmp_path / name) == pytest.approx(start, abs=0.03)
