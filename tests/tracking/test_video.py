"""Reading videos: sizes, times, rotation, selection, folders, and files that are no videos."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from partnerface_ns.errors import SubjectError
from partnerface_ns.tracking.video import Selection, estimate_count, read_frames, require


def numbered(num: int, rows: int = 64, columns: int = 96) -> list[np.ndarray]:
    """Pictures whose brightness says which one they are; the left half is darker than the right."""
    pictures = [np.full((rows, columns, 3), 40 + 4 * i, dtype=np.uint8) for i in range(num)]
    for picture in pictures:
        picture[:, : columns // 2] -= 30
    return pictures


def numbers_of(frames) -> list[int]:
    return [round((float(f.rgb[:, -20:].mean()) - 40) / 4) for f in frames]


@pytest.fixture
def video(film, tmp_path) -> Path:
    return film(tmp_path / "numbers.mp4", numbered(30))


def test_all_frames_come_in_order_with_their_times(video):
    frames = list(read_frames(video, Selection()))
    assert numbers_of(frames) == list(range(30))
    np.testing.assert_allclose([f.time for f in frames], np.arange(30) / 25, atol=1e-6)
    assert frames[0].rgb.shape == (64, 96, 3) and frames[0].rgb.dtype == np.uint8


@pytest.mark.parametrize(
    "selection, expected",
    [
        (Selection(fps=5.0), [0, 5, 10, 15, 20, 25]),
        (Selection(fps=100.0), list(range(30))),
        (Selection(start=0.4, end=0.6), [10, 11, 12, 13, 14, 15]),
        (Selection(max_frames=3), [0, 1, 2]),
        (Selection(fps=12.5, start=0.2, max_frames=2), [5, 7]),
    ],
)
def test_selection(video, selection, expected):
    assert numbers_of(read_frames(video, selection)) == expected
    assert abs(estimate_count(video, selection) - len(expected)) <= 1


def test_a_rate_that_does_not_divide_the_videos_is_kept_on_average(video):
    frames = list(read_frames(video, Selection(fps=10.0)))
    assert len(frames) == 12
    assert np.abs(np.array([f.time for f in frames]) - np.arange(12) / 10).max() < 0.05


def test_variable_frame_rate_keeps_the_times(tmp_path):
    path = tmp_path / "variable.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=100)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for rgb, tick in zip(numbered(4), (0, 4, 30, 34), strict=True):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = list(read_frames(path, Selection()))
    assert numbers_of(frames) == [0, 1, 2, 3]
    np.testing.assert_allclose([f.time for f in frames], [0, 0.04, 0.30, 0.34], atol=2e-3)


@pytest.mark.parametrize("turn, matrix", [(90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1)), (270, (0, -1, 1, 0))])
def test_rotation_tag_is_undone(video, turn, matrix):
    # A phone held upright stores lying pictures and the matrix that a player turns them by (clockwise).
    content = bytearray(video.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * 0x10000 for value in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    video.write_bytes(content)
    rgb = next(read_frames(video, Selection())).rgb
    plain = numbered(1)[0]
    np.testing.assert_allclose(rgb, np.rot90(plain, -turn // 90), atol=6)


def test_folder_of_images(tmp_path):
    for i, rgb in enumerate(numbered(3)):
        Image.fromarray(rgb).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no image")
    frames = list(read_frames(tmp_path, Selection()))
    assert numbers_of(frames) == [0, 1, 2] and frames[2].time == pytest.approx(2 / 25)
    assert estimate_count(tmp_path, Selection()) == 3


def test_images_of_different_sizes_are_refused(tmp_path):
    Image.fromarray(numbered(1)[0]).save(tmp_path / "0.png")
    Image.fromarray(numbered(1, rows=32)[0]).save(tmp_path / "1.png")
    with pytest.raises(SubjectError, match=r"1\.png: all images must be of one size"):
        list(read_frames(tmp_path, Selection()))


def test_a_file_that_breaks_off_gives_the_frames_before(film, tmp_path):
    path = film(tmp_path / "whole.mkv", numbered(30))
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    frames = list(read_frames(broken, Selection()))
    assert 5 < len(frames) < 30
    np.testing.assert_allclose(numbers_of(frames), [25 * f.time for f in frames], atol=1)


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    "name, make, message",
    [
        ("missing.mp4", lambda p: None, "does not exist"),
        ("text.mp4", lambda p: p.write_text("this is no video"), "not a video that can be opened"),
        ("empty.mp4", lambda p: p.write_bytes(b""), "the file is empty"),
        ("sound.m4a", write_sound, "the file has no video"),
        ("empty", lambda p: p.mkdir(), "no image in this folder"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(SubjectError, match=message) as refusal:
        list(read_frames(tmp_path / name, Selection()))
    assert name in str(refusal.value)


def test_a_part_without_frames_is_refused(video):
    with pytest.raises(SubjectError, match="no frame in the chosen part"):
        list(read_frames(video, Selection(start=100.0)))


def test_a_missing_package_is_named_with_the_command_that_installs_it():
    with pytest.raises(SubjectError, match=r"pip install 'partnerface\[track\]'"):
        require("a_package_that_is_not_there")
