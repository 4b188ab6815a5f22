"""Folders of images: order, hidden files, doubles, alpha, depth, orientation and colour profiles."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from partnerface_ns.common.errors import InputError
from partnerface_ns.tracking.video.decode.reading import Selection, read_frames

ROWS, COLUMNS = 6, 8


def image(brightness: int) -> np.ndarray:
    """A grey image whose left half is darker."""
    rgb = np.full((ROWS, COLUMNS, 3), brightness, dtype=np.uint8)
    rgb[:, : COLUMNS // 2] //= 2
    return rgb


def frames_of(folder, note=None):
    return list(read_frames(folder, Selection(), *([note] if note else [])))


def brightness_of(folder) -> list[int]:
    return [int(frame.rgb[0, -1, 0]) for frame in frames_of(folder)]


def test_frames_come_in_order_of_their_numbers(tmp_path):
    for number in (1, 2, 9, 10, 11, 100):
        Image.fromarray(image(number)).save(tmp_path / f"frame_{number}.png")
    assert brightness_of(tmp_path) == [1, 2, 9, 10, 11, 100]


def test_hidden_files_are_ignored(tmp_path):
    Image.fromarray(image(7)).save(tmp_path / "00000.png")
    (tmp_path / "._00000.png").write_bytes(b"\0\5\26\7 no image")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    assert brightness_of(tmp_path) == [7]


@pytest.mark.parametrize("other", ["00001.jpg", "1.png", "00001.PNG"])
def test_two_images_of_one_frame_are_refused_by_name(tmp_path, other):
    for name in ("00000.png", "00001.png", other):
        Image.fromarray(image(7)).save(tmp_path / name)
    with pytest.raises(InputError, match="two images of one frame") as refusal:
        frames_of(tmp_path)
    assert "00001.png" in str(refusal.value) and other in str(refusal.value)


def test_sizes_are_compared_before_anything_is_decoded(tmp_path, monkeypatch):
    for number in range(3):
        Image.fromarray(image(7)[: ROWS - (number == 2)]).save(tmp_path / f"{number}.png")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("an image was decoded"))
    with pytest.raises(InputError, match=r"2\.png: all images must be of one size\s+expected: 8 x 6\s+found: +8 x 5"):
        frames_of(tmp_path)


@pytest.mark.parametrize("suffix, mode", [("png", "RGBA"), ("png", "LA"), ("webp", "RGBA"), ("tif", "RGBA")])
def test_alpha_is_kept_and_hidden_colours_are_dropped(tmp_path, suffix, mode):
    alpha = np.full((ROWS, COLUMNS), 255, dtype=np.uint8)
    alpha[:2], alpha[2] = 0, 128
    rgba = Image.fromarray(np.dstack([image(90), alpha]))
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    rgba.convert(mode).save(tmp_path / f"0.{suffix}", **options)
    notes: list[str] = []
    (frame,) = frames_of(tmp_path, notes.append)
    assert notes == ["The frames carry alpha: it is the matte."]
    np.testing.assert_array_equal(frame.alpha, alpha)
    np.testing.assert_array_equal(frame.rgb[2:], image(90)[2:])
    assert (frame.rgb[:2] == 255).all()


def test_constant_alpha_is_dropped(tmp_path):
    opaque = np.full((ROWS, COLUMNS), 255, dtype=np.uint8)
    Image.fromarray(np.dstack([image(90), opaque])).save(tmp_path / "0.png")
    assert frames_of(tmp_path)[0].alpha is None


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    Image.fromarray(image(90)[..., 0].astype(np.uint16) * 257).save(tmp_path / "0.png")
    np.testing.assert_array_equal(frames_of(tmp_path)[0].rgb, image(90))


def test_floating_point_images_are_refused(tmp_path):
    Image.fromarray(image(90)[..., 0].astype(np.float32)).save(tmp_path / "0.tif")
    with pytest.raises(InputError, match="8 or 16 bits a channel"):
        frames_of(tmp_path)


def test_the_error_names_a_broken_image(tmp_path):
    Image.fromarray(image(90)).save(tmp_path / "0.jpg")
    (tmp_path / "0.jpg").write_bytes((tmp_path / "0.jpg").read_bytes()[:-40])
    with pytest.raises(InputError, match=r"0\.jpg: the image cannot be read"):
        frames_of(tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations_are_applied(tmp_path, orientation):
    upright = np.arange(ROWS * COLUMNS * 3, dtype=np.uint8).reshape(ROWS, COLUMNS, 3)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "0.png", exif=exif)
    np.testing.assert_array_equal(frames_of(tmp_path)[0].rgb, upright)


def matrix_profile(name: str, columns: tuple[tuple[float, float, float], ...], gamma: float) -> bytes:
    """An ICC profile (version 2) of an RGB space: XYZ of its primaries under D50, and a gamma."""

    def number(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    text = name.encode() + b"\0"
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)}
    for key, xyz in zip((b"wtpt", b"rXYZ", b"gXYZ", b"bXYZ"), ((0.9642, 1, 0.8249), *columns), strict=True):
        tags[key] = b"XYZ " + bytes(4) + b"".join(map(number, xyz))
    for key in (b"rTRC", b"gTRC", b"bTRC"):
        tags[key] = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    table, content = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for key, value in tags.items():
        value += bytes(-len(value) % 4)
        table += key + struct.pack(">II", start + len(content), len(value))
        content += value
    header = bytearray(128)
    header[0:4] = struct.pack(">I", start + len(content))
    header[8:12], header[12:24], header[36:40] = b"\2\x10\0\0", b"mntrRGB XYZ ", b"acsp"
    header[68:80] = b"".join(map(number, (0.9642, 1, 0.8249)))
    return bytes(header) + table + content


def test_another_colour_profile_is_converted_with_one_note(tmp_path):
    # Display P3; the red of sRGB has the coordinates (234, 51, 35) there.
    columns = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
    profile = matrix_profile("Display P3", columns, 2.2)
    rgb = np.full((ROWS, COLUMNS, 3), (234, 51, 35), dtype=np.uint8)
    for number in range(2):
        Image.fromarray(rgb).save(tmp_path / f"{number}.png", icc_profile=profile)
    notes: list[str] = []
    frames = frames_of(tmp_path, notes.append)
    np.testing.assert_allclose(frames[1].rgb[0, 0], [255, 0, 0], atol=12)
    assert notes == ["The images' colours are Display P3: they were converted to sRGB."]


def test_an_invalid_profile_is_ignored(tmp_path):
    Image.fromarray(image(90)).save(tmp_path / "0.png", icc_profile=b"no profile")
    np.testing.assert_array_equal(frames_of(tmp_path)[0].rgb, image(90))
