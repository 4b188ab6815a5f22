"""Sheets, error images, tints and clips."""

from __future__ import annotations

import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from partnerface_ns.rendering.figures import (
    WHITE_ERROR,
    arrange_sheet,
    save_clip,
    save_image,
    show_error,
    tint_gray,
    to_image,
)


def plain(level: int, height: int = 30, width: int = 40) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_colours_become_bytes_within_their_range():
    assert to_image(torch.tensor([[[-1.0, 0.5, 2.0]]])).tolist() == [[[0, 128, 255]]]


def test_errors_grow_from_black_over_red_and_yellow_to_white():
    truth = torch.zeros(1, 5, 3)
    shares = torch.tensor([0, 1 / 3, 2 / 3, 1, 4])
    found = show_error(truth + WHITE_ERROR * shares[None, :, None], truth)
    assert found[0].tolist() == [[0, 0, 0], [255, 0, 0], [255, 255, 0], [255, 255, 255], [255, 255, 255]]


def test_a_tint_covers_opaque_pixels_only():
    rgb = torch.tensor([[[0.0, 0.5, 1.0], [1.0, 1.0, 1.0]]])
    tint = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    found = tint_gray(rgb, tint, torch.tensor([[[1.0], [0.0]]]), share=0.6)
    assert found.tolist() == [[[204, 51, 51], [255, 255, 255]]]


def test_a_sheet_holds_every_image_at_its_position():
    images = [[plain(10), plain(20)], [plain(30), plain(40)], [plain(50), plain(60)]]
    bare = arrange_sheet(images, ())
    assert bare.shape == (3 * 34 - 4, 2 * 44 - 4, 3)
    for r in range(3):
        for c in range(2):
            assert np.array_equal(bare[r * 34 : r * 34 + 30, c * 44 : c * 44 + 40], images[r][c])
    named = arrange_sheet(images, ("a", "b"), ("first", "second", "third"))
    assert named.shape == (20 + 3 * 54 - 4, 84, 3)
    assert np.array_equal(named[94:124, 44:84], images[1][1])
    assert named[:20, :40].min() < 128 and named[:20, 44:].min() < 128, "both names are written"
    assert named[20:40].min() < 128, "the caption is written"


def test_an_image_is_written_completely(tmp_path):
    image = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)
    save_image(tmp_path / "a.png", image)
    assert np.array_equal(np.array(Image.open(tmp_path / "a.png")), image)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_clip_holds_every_image_in_its_colours(tmp_path):
    levels = (20, 90, 160, 230)
    save_clip(tmp_path / "clip.mp4", (plain(level, 31, 41) for level in levels), fps=10.0)
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", tmp_path / "clip.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    decoded = subprocess.run(command, capture_output=True, check=True)
    frames = np.frombuffer(decoded.stdout, np.uint8).reshape(-1, 30, 40, 3)
    assert [int(frame.mean()) for frame in frames] == pytest.approx(levels, abs=6)
    assert b" 10 fps" in decoded.stderr and b"h264" in decoded.stderr


def test_a_clip_that_fails_leaves_nothing_under_its_name(tmp_path):
    def images():
        yield plain(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_clip(tmp_path / "clip.mp4", images(), fps=10.0)
    assert not list(tmp_path.iterdir())
