"""Reading videos: sizes, times, rotation, selection, folders, and files that are no videos."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from partnerface_ns.common.errors import InputError
from partnerface_ns.tracking.video.decode.reading import Selection, estimate_count, read_frames
from partnerface_ns.tracking.video.packages import require


def numbered(num: int, rows: int = 64, columns: int = 96) -> list[np.ndarray]:
    """Images whose brightness says which one they are; the left half is darker than the right."""
    images = [np.full((rows, columns, 3), 40 + 4 * i, dtype=np.uint8) for i in range(num)]
    for image in images:
        image[:, : columns // 2] -= 30
    return images


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


MATRICES = {
    (1, 0, 0, 1): lambda shown: shown,
    (0, 1, -1, 0): lambda shown: np.rot90(shown),
    (-1, 0, 0, -1): lambda shown: np.rot90(shown, 2),
    (0, -1, 1, 0): lambda shown: np.rot90(shown, -1),
    (-1, 0, 0, 1): lambda shown: shown[:, ::-1],
    (1, 0, 0, -1): lambda shown: shown[::-1],
    (0, 1, 1, 0): lambda shown: shown.swapaxes(0, 1),
    (0, -1, -1, 0): lambda shown: np.rot90(shown, 2).swapaxes(0, 1),
}
"""Display matrices (a, b, c, d), and how a file that is shown by them stores an image."""


def corners(rows: int = 64, columns: int = 96) -> np.ndarray:
    """An image with four different quarters."""
    rgb = np.full((rows, columns, 3), 40, dtype=np.uint8)
    rgb[: rows // 2, columns // 2 :], rgb[rows // 2 :, : columns // 2], rgb[rows // 2 :, columns // 2 :] = 90, 150, 220
    return rgb


@pytest.mark.parametrize("matrix", MATRICES)
def test_every_display_matrix_is_applied(film, tmp_path, matrix):
    path = film(tmp_path / "video.mp4", [np.ascontiguousarray(MATRICES[matrix](corners()))] * 3)
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * 0x10000 for value in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(content)
    notes: list[str] = []
    rgb = next(read_frames(path, Selection(), notes.append)).rgb
    np.testing.assert_allclose(rgb.astype(int), corners(), atol=12)
    mirrored = matrix[0] * matrix[3] - matrix[1] * matrix[2] < 0
    assert len(notes) == mirrored and all("mirrored" in note for note in notes)


def write_planes(
    path: Path, planes: list[np.ndarray], pix_fmt: str, codec: str = "ffv1", num: int = 2, **tags: object
) -> Path:
    """A lossless video of equal frames from their planes; `tags` are set on the encoder."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *planes[0].shape, pix_fmt
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for index in range(num):
            frame = av.VideoFrame(stream.width, stream.height, pix_fmt)
            for plane, values in zip(frame.planes, planes, strict=True):
                rows = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
                rows[:, : values.shape[1]] = values
                plane.update(rows.tobytes())
            frame.pts = index
            for name, value in tags.items():
                if hasattr(frame, name):
                    setattr(frame, name, value)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def hlg_signal(light: np.ndarray) -> np.ndarray:
    """BT.2100 HLG for a display of 1000 nits, from linear BT.2020 light with diffuse white at 1."""
    shown = light * 203 / 1000
    scene = shown * (shown @ [0.2627, 0.6780, 0.0593])[..., None] ** (-0.2 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def pq_signal(light: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084, from linear BT.2020 light with diffuse white at 1."""
    power = (light * 203 / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


@pytest.mark.parametrize("transfer, signal_of, name", [(18, hlg_signal, "HLG"), (16, pq_signal, "PQ")])
def test_high_dynamic_range_is_converted_to_standard_range(tmp_path, transfer, signal_of, name):
    colours = np.array([[128, 128, 128], [200, 150, 125], [70, 45, 38], [40, 80, 160]])
    rgb = colours.repeat(24, 0)[None].repeat(64, 0)  # four upright stripes
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    light = (rgb / 255) ** 2.2 @ to_2020.T
    signal = signal_of(light)
    luma = signal @ [0.2627, 0.6780, 0.0593]
    codes = (
        64 + 876 * luma,
        512 + 896 * (signal[..., 2] - luma) / 1.8814,
        512 + 896 * (signal[..., 0] - luma) / 1.4746,
    )
    planes = [np.round(code).astype("<u2") for code in codes]
    tags = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9, "color_range": 1}
    path = write_planes(tmp_path / "hdr.mkv", planes, "yuv444p10le", **tags)
    notes: list[str] = []
    frames = list(read_frames(path, Selection(), notes.append))
    np.testing.assert_allclose(frames[1].rgb[30, 12::24].astype(int), colours, atol=3)
    assert len(notes) == 1 and f"{name} high dynamic range, BT.2020" in notes[0]


@pytest.mark.parametrize(
    "rows, tags, red",
    [
        # Chroma 200 above neutral; BT.601 adds 1.596 times the difference, BT.709 1.793 times, full range 1.402.
        (64, {}, 128 + 1.596 * 40),
        (64, {"colorspace": 1}, 128 + 1.793 * 40),
        (720, {}, 128 + 1.793 * 40),
        (720, {"colorspace": 5}, 128 + 1.596 * 40),
        (64, {"colorspace": 5, "color_range": 2}, 126 + 1.402 * 40),
    ],
)
def test_the_yuv_matrix_follows_the_tags_or_else_the_size(tmp_path, rows, tags, red):
    shape = (rows, rows * 16 // 9 // 2 * 2)
    values = (126, 128, 168)
    planes = [np.full(shape, value, dtype=np.uint8) for value in values]
    path = write_planes(tmp_path / "video.mkv", planes, "yuv444p", **tags)
    rgb = next(read_frames(path, Selection())).rgb
    assert rgb[10, 10, 0] == pytest.approx(red, abs=2)


def test_pixels_become_square(film, tmp_path):
    path = film(tmp_path / "video.mp4", [corners()] * 2, sar=Fraction(4, 3))
    notes: list[str] = []
    rgb = next(read_frames(path, Selection(), notes.append)).rgb
    assert rgb.shape == (64, 128, 3)
    np.testing.assert_allclose(rgb[::63, ::127].astype(int), corners()[::63, ::95], atol=12)
    assert notes == ["Pixels are not square (4:3): 96 x 64 was stretched to 128 x 64."]


def test_narrow_pixels_make_higher_frames(film, tmp_path):
    path = film(tmp_path / "video.mp4", [corners()] * 2, sar=Fraction(1, 2))
    assert next(read_frames(path, Selection())).rgb.shape == (128, 96, 3)


def bars(shift: int) -> np.ndarray:
    """Vertical bars, moved to the right."""
    return np.roll(np.repeat(np.where(np.arange(96) // 12 % 2, 200, 50)[None, :, None], 64, 0), shift, 1)


def test_interlaced_fields_are_separated(film, tmp_path):
    frames = []
    for index in range(8):
        frame = bars(6 * index).astype(np.uint8).repeat(3, 2)
        frame[1::2] = bars(6 * index + 3)[1::2]
        frames.append(frame)
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1", "crf": "10", "bf": "0"}
    path = film(tmp_path / "interlaced.mp4", frames, options=options)
    notes: list[str] = []
    shown = list(read_frames(path, Selection(), notes.append))
    np.testing.assert_allclose([f.time for f in shown], np.arange(8) / 25, atol=1e-6)
    for index in (2, 4, 6):
        rows = shown[index].rgb[16:48, :, 0].astype(int)
        assert np.abs(np.diff(rows, axis=0)).mean() < 4, "no combs"
        offsets = [np.abs(rows - bars(6 * index + shift)[16:48, :, 0]).mean() for shift in (0, 3)]
        # Older versions of PyAV do not tell which field is the first.
        possible = offsets[:1] if hasattr(av.VideoCodecContext, "field_order") else offsets
        assert min(possible) < 12, "the first of both fields"
    assert len(notes) == 1 and "interlaced" in notes[0]


def test_alpha_of_a_video_is_kept(tmp_path):
    rgba = np.dstack([corners(), np.full((64, 96), 255, np.uint8)])
    rgba[:10, :, 3], rgba[10, :, 3] = 0, 100
    with av.open(str(tmp_path / "video.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "bgra"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="bgra")))
        container.mux(stream.encode())
    frame = next(read_frames(tmp_path / "video.mkv", Selection()))
    np.testing.assert_array_equal(frame.alpha, rgba[..., 3])
    np.testing.assert_array_equal(frame.rgb[10:], rgba[10:, :, :3])
    assert (frame.rgb[:10] == 255).all()


@pytest.mark.parametrize("size_of_still", [(32, 48), (640, 960)])
def test_a_still_image_stream_is_ignored(tmp_path, size_of_still):
    path = tmp_path / "video.mkv"
    with av.open(str(path), "w") as container:
        streams = []
        for codec, pix_fmt, (rows, columns) in (("mjpeg", "yuvj420p", size_of_still), ("libx264", "yuv420p", (64, 96))):
            streams.append(container.add_stream(codec, rate=25, options={"bf": "0"} if codec == "libx264" else None))
            streams[-1].height, streams[-1].width, streams[-1].pix_fmt = rows, columns, pix_fmt
        still, video = streams
        container.mux(still.encode(av.VideoFrame.from_ndarray(np.zeros((*size_of_still, 3), np.uint8))))
        container.mux(still.encode())
        for rgb in numbered(12):
            container.mux(video.encode(av.VideoFrame.from_ndarray(rgb)))
        container.mux(video.encode())
    notes: list[str] = []
    assert numbers_of(read_frames(path, Selection(), notes.append)) == list(range(12))
    assert estimate_count(path, Selection()) == 12
    assert len(notes) == 1 and "2 video streams" in notes[0]


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
    with pytest.raises(InputError, match=r"1\.png: all images must be of one size"):
        list(read_frames(tmp_path, Selection()))


@pytest.mark.parametrize("suffix, container", [("mkv", {}), ("mp4", {"movflags": "faststart"}), ("webm", {})])
def test_a_truncated_file_gives_its_intact_frames_and_a_note(film, tmp_path, suffix, container):
    codec = "libvpx" if suffix == "webm" else "libx264"
    path = film(tmp_path / f"whole.{suffix}", textured(30), codec=codec, container=container, options={"g": "10"})
    content, broken = path.read_bytes(), tmp_path / f"broken.{suffix}"
    broken.write_bytes(content[: len(content) * 7 // 10])
    notes: list[str] = []
    frames = list(read_frames(broken, Selection(), notes.append))
    assert 5 < len(frames) < 30
    np.testing.assert_allclose([25 * f.time for f in frames], np.arange(len(frames)), atol=0.1)
    assert notes == [f"The file breaks off after {len(frames)} of 30 frames."]
    notes.clear()
    list(read_frames(path, Selection(), notes.append))
    list(read_frames(broken, Selection(max_frames=5), notes.append))
    assert notes == [], "nothing is said of a whole file, or where the break is not reached"


def textured(num: int) -> list[np.ndarray]:
    """Numbered images over noise, which makes a file large enough to be damaged in places."""
    noise = np.random.default_rng(0).integers(-20, 20, (num, 64, 96, 1))
    return [(rgb.astype(int) + noise[i]).clip(0, 255).astype(np.uint8) for i, rgb in enumerate(numbered(num))]


@pytest.mark.parametrize("options", [{"g": "6", "bf": "0"}, {"g": "6", "bf": "2", "x264-params": "open-gop=1"}])
def test_damaged_frames_are_left_out_and_reading_continues(film, tmp_path, options):
    whole = film(tmp_path / "whole.mp4", textured(36), options={"crf": "10", "keyint_min": "6", **options})
    content, rng = bytearray(whole.read_bytes()), np.random.default_rng(3)
    start = content.index(b"mdat") + 4
    for share in (0.3, 0.7):
        at = start + int(share * (len(content) - start - 2000))
        content[at : at + 1500] = rng.bytes(1500)
    path = tmp_path / "rotted.mp4"
    path.write_bytes(content)
    true = {frame.time: frame.rgb for frame in read_frames(whole, Selection())}
    notes: list[str] = []
    frames = list(read_frames(path, Selection(), notes.append))
    assert 12 <= len(frames) < 36 and frames[-1].time == pytest.approx(35 / 25)
    for frame in frames:
        np.testing.assert_array_equal(frame.rgb, true[frame.time])
    assert len(notes) == 1 and notes[0].startswith(f"{36 - len(frames)} of 36 frames are damaged")
    assert [f.time for f in read_frames(path, Selection())] == [f.time for f in frames], "every pass gives the same"


def test_a_video_that_begins_late_is_not_truncated(tmp_path):
    # Matroska counts its duration from 0, where the first frame does not lie.
    with av.open(str(tmp_path / "late.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index, rgb in enumerate(numbered(12)):
            frame = av.VideoFrame.from_ndarray(rgb)
            frame.pts = 125 + index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    notes: list[str] = []
    assert len(list(read_frames(tmp_path / "late.mkv", Selection(), notes.append))) == 12
    assert notes == []


def test_a_stream_without_times_is_read_at_its_rate(film, tmp_path):
    frames = list(read_frames(film(tmp_path / "raw.h264", numbered(6), options={"bf": "0"}), Selection()))
    assert numbers_of(frames) == list(range(6))
    np.testing.assert_allclose([f.time for f in frames], np.arange(6) / 25, atol=1e-6)


def test_frames_of_another_size_are_scaled_and_of_another_shape_refused(film, tmp_path):
    parts = {"first": numbered(5), "small": numbered(5, 32, 48), "turned": numbered(5, 96, 64)}
    for name, images in parts.items():
        film(tmp_path / f"{name}.ts", images, options={"crf": "12", "bf": "0"})
    for second, frames in (("small", 10), ("turned", None)):
        path = tmp_path / f"{second}_after.ts"
        path.write_bytes((tmp_path / "first.ts").read_bytes() + (tmp_path / f"{second}.ts").read_bytes())
        notes: list[str] = []
        if frames is None:
            with pytest.raises(InputError, match=r"shape changes[\s\S]*96 x 64[\s\S]*64 x 96"):
                list(read_frames(path, Selection(), notes.append))
        else:
            shapes = {frame.rgb.shape for frame in read_frames(path, Selection(), notes.append)}
            assert shapes == {(64, 96, 3)} and any("frame size changes" in note for note in notes)


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
def test_files_that_are_not_videos_are_refused(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(InputError, match=message) as refusal:
        list(read_frames(tmp_path / name, Selection()))
    assert name in str(refusal.value)


def test_an_empty_selection_is_refused(video):
    with pytest.raises(InputError, match=r"no frame in the chosen part[\s\S]*1\.20 s\s+found: +100 s to the end"):
        list(read_frames(video, Selection(start=100.0)))


def test_a_missing_package_is_named_with_the_command_that_installs_it():
    with pytest.raises(InputError, match=r"pip install 'partnerface\[track\]'"):
        require("a_package_that_is_not_there")
