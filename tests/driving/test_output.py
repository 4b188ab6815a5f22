"""Driven images as files: formats, going on after a stop, nothing broken under a final name."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from partnerface_ns.baked.baked_avatar import BakedAvatar
from partnerface_ns.baked.config import BakedConfig
from partnerface_ns.common.errors import InputError
from partnerface_ns.driving import output as output_module
from partnerface_ns.driving.capture_motion import motion_of_capture
from partnerface_ns.driving.output import write_plan
from partnerface_ns.driving.plan import PlanConfig, make_plan, render_frame
from partnerface_ns.driving.player import Player


@pytest.fixture
def plan(player, capture, tiny_head):
    return make_plan(player, motion_of_capture(capture, tiny_head), PlanConfig(max_frames=4))


def test_a_folder_of_images_with_alpha(player, plan, tmp_path):
    write_plan(tmp_path / "out", player, plan)
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["00000.png", "00001.png", "00002.png", "00003.png", "drive.json"]
    image = np.array(Image.open(tmp_path / "out" / "00002.png")).astype(float)
    expected = render_frame(player, plan, 2)
    assert image.shape == (16, 16, 4)
    np.testing.assert_array_equal(image[..., 3], expected.alpha)
    over_white = image[..., :3] * image[..., 3:] / 255 + 255 - image[..., 3:]
    assert np.abs(over_white - expected.rgb).max() <= 2
    assert image[..., 3].min() == 0 and image[..., 3].max() > 100


@pytest.mark.parametrize("name", ["out", "out.mp4"])
def test_an_interrupted_output_is_resumed(player, plan, tmp_path, monkeypatch, name, capsys):
    rendered = []

    def stopping(player, plan, index):
        if index == 2 and len(rendered) == 2:
            raise KeyboardInterrupt
        rendered.append(index)
        return render_frame(player, plan, index)

    monkeypatch.setattr(output_module, "render_frame", stopping)
    with pytest.raises(KeyboardInterrupt):
        write_plan(tmp_path / name, player, plan)
    rendered.append(-1)
    write_plan(tmp_path / name, player, plan)
    assert rendered == [0, 1, -1, 2, 3]
    assert "Resuming: 2 of 4 images are finished." in capsys.readouterr().out
    assert [p.name for p in tmp_path.glob("*out*")] == [name], "nothing of the way is left"


@pytest.mark.parametrize("fast", [False, True])
def test_images_drawn_at_once_are_those_drawn_one_after_the_other(player, capture, tiny_head, tmp_path, fast):
    player.fast = fast
    player.baked = BakedAvatar(player.avatar, BakedConfig(resolution=32))
    plan = make_plan(player, motion_of_capture(capture, tiny_head), PlanConfig(size=24))
    one_by_one = np.stack([render_frame(player, plan, index).rgb for index in range(len(plan))])
    assert np.ptp(one_by_one.astype(float), axis=0).max() > 20, "frames differ"
    torch.set_num_threads(4)
    assert player.num_parallel == 4
    write_plan(tmp_path / "out.npz", player, plan)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as file:
        rgba = file["rgba"].astype(float)
    over_white = rgba[..., :3] * rgba[..., 3:] / 255 + 255 - rgba[..., 3:]
    assert np.abs(over_white - one_by_one).max() <= 1
    write_plan(tmp_path / "out", player, plan)
    images = [np.array(Image.open(tmp_path / "out" / f"{index:05d}.png")) for index in range(len(plan))]
    np.testing.assert_array_equal(images, rgba)


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError("it", "broke")])
def test_an_error_among_images_drawn_at_once_leaves_whole_ones(player, plan, tmp_path, monkeypatch, error):
    def failing(player, plan, index):
        if index == 1:
            raise error
        return render_frame(player, plan, index)

    write_plan(tmp_path / "expected", player, plan)
    monkeypatch.setattr(Player, "num_parallel", 3)
    monkeypatch.setattr(output_module, "render_frame", failing)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        write_plan(tmp_path / "out", player, plan)
    left = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    expected = {path.name: path.read_bytes() for path in (tmp_path / "expected").iterdir()}
    assert "00001.png" not in left and "00000.png" in left and left.items() <= expected.items()
    monkeypatch.setattr(output_module, "render_frame", render_frame)
    write_plan(tmp_path / "out", player, plan)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == expected


def test_a_stopped_clip_of_another_plan_begins_again(player, plan, tmp_path):
    left = tmp_path / ".out.mp4.images"
    left.mkdir()
    (left / "drive.json").write_text('{"plan": "another", "fps": 25}')
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(left / "00000.png")
    write_plan(tmp_path / "out.mp4", player, plan)
    assert frames_of(tmp_path / "out.mp4")[0].mean() > 50 and not left.exists()


def frames_of(path):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    decoded = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(decoded, np.uint8).reshape(-1, 16, 16, 3)


def test_a_clip_keeps_the_sound_of_its_video(player, plan, tmp_path):
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    image, tone = ["-f", "lavfi", "-i", "color=s=16x16:r=25"], ["-f", "lavfi", "-i", "sine"]
    for name, sources in (("spoken.mp4", image + tone), ("silent.mp4", image)):
        subprocess.run([ffmpeg, "-v", "error", *sources, "-t", "1", tmp_path / name], check=True)
        write_plan(tmp_path / "out.mp4", player, replace(plan, sound=tmp_path / name))
        streams = subprocess.run([ffmpeg, "-i", tmp_path / "out.mp4"], capture_output=True, text=True).stderr
        assert ("Audio: aac" in streams) == (name == "spoken.mp4")
        assert len(frames_of(tmp_path / "out.mp4")) == 4


def test_a_clip_that_breaks_off_gets_no_final_name(player, plan, tmp_path, monkeypatch):
    def truncated(path, images, fps):
        path.write_bytes(b"\0" * 100 + bytes(len(list(images))))

    monkeypatch.setattr(output_module, "save_clip", truncated)
    with pytest.raises(InputError, match="cannot be written"):
        write_plan(tmp_path / "out.mp4", player, plan)
    assert [p.name for p in tmp_path.glob("*out*")] == [".out.mp4.images"]


def test_a_folder_of_something_else_is_left_alone(player, plan, tmp_path):
    write_plan(tmp_path / "out", player, plan)
    other = replace(plan, fps=7.0)
    with pytest.raises(InputError, match="another avatar, motion or option"):
        write_plan(tmp_path / "out", player, other)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("x")
    with pytest.raises(InputError, match="is in use"):
        write_plan(tmp_path / "letters", player, plan)


def test_a_clip_has_all_images(player, plan, tmp_path):
    write_plan(tmp_path / "out.mp4", player, plan)
    clip = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", tmp_path / "out.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    decoded = subprocess.run(clip, capture_output=True, check=True).stdout
    frames = np.frombuffer(decoded, np.uint8).reshape(-1, 16, 16, 3)
    assert len(frames) == 4
    assert np.abs(frames[1].astype(float) - render_frame(player, plan, 1).rgb).mean() < 20


def test_an_npz_holds_images_states_and_rate(player, plan, tmp_path):
    write_plan(tmp_path / "out.npz", player, plan)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as file:
        assert file["rgba"].shape == (4, 16, 16, 4) and file["fps"] == 25
        np.testing.assert_array_equal(file["rgba"][3, ..., 3], render_frame(player, plan, 3).alpha)
        np.testing.assert_array_equal(file["jaw"], plan.states.jaw.numpy())


@pytest.mark.parametrize("name", ["out.mp4", "out.npz", "out"])
def test_a_failed_output_leaves_no_file_under_its_final_name(player, plan, tmp_path, monkeypatch, name):
    def failing(player, plan, index):
        if index == 1:
            raise OSError(28, "No space left on device")
        return render_frame(player, plan, index)

    monkeypatch.setattr(output_module, "render_frame", failing)
    with pytest.raises(InputError, match="No space"):
        write_plan(tmp_path / name, player, plan)
    left = sorted(p.name for p in tmp_path.rglob("*") if p.name.startswith(("out", "0")))
    assert left == {"out": ["00000.png", "out"], "out.mp4": ["00000.png"], "out.npz": []}[name]


def test_outputs_that_cannot_be_written_are_refused(player, plan, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "dir.mp4").mkdir()
    for name, problem in (
        ("file", "is a file"),
        ("dir.mp4", "is a folder"),
        ("none/out.mp4", "does not exist"),
        ("out.gif", "unknown kind"),
    ):
        with pytest.raises(InputError, match=problem):
            write_plan(tmp_path / name, player, plan)


def test_the_source_stands_at_the_left(player, capture, tiny_head, tmp_path):
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / "3.png")
    frames = tuple(
        replace(f, image_path=tmp_path / "3.png", composited=True) if f.timestep == 3 else f for f in capture.frames
    )
    motion = motion_of_capture(replace(capture, frames=frames), tiny_head)
    plan = make_plan(player, motion, PlanConfig(side_by_side=True, size=32))
    images = [render_frame(player, plan, t) for t in (2, 3)]
    assert images[0].rgb.shape == (32, 64, 3)
    assert images[0].rgb[:, :32].max() == 0 and (images[1].rgb[:, :32] == 90).all()
    assert (images[1].alpha[:, :32] == 255).all()
    np.testing.assert_array_equal(images[1].rgb[:, 32:], render_frame(player, replace(plan, source=None), 3).rgb)
