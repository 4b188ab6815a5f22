"""Images and masks."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from partnerface_ns.capture.capture import Frame
from partnerface_ns.capture.images import detect_background, load_image, mask_warning, read_header
from partnerface_ns.common.errors import InputError
from partnerface_ns.geometry.camera import Camera

WIDTH, HEIGHT = 12, 10
BLUE = (0.0, 0.0, 1.0)


@pytest.fixture
def make_frame(tmp_path):
    """A frame of an image and a mask (arrays or None)."""

    def make(image: np.ndarray, mask: np.ndarray | None = None, **values) -> Frame:
        Image.fromarray(image).save(tmp_path / "image.png")
        if mask is not None:
            Image.fromarray(mask).save(tmp_path / "mask.png")
        camera = Camera(np.eye(4), 10.0, 10.0, 6.0, 5.0, WIDTH, HEIGHT)
        return Frame(0, 0, camera, tmp_path / "image.png", None if mask is None else tmp_path / "mask.png", **values)

    return make


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture
def half():
    """A mask: left black, a column of half, right white."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, 5], mask[:, 6:] = 128, 255
    return mask


def over_blue(rgb, mask):
    share = mask[..., None] / 255
    return (rgb * share + np.array([0, 0, 255]) * (1 - share) + 0.5).astype(np.uint8)


def test_alpha_composites_and_is_the_mask(make_frame, rgb, half):
    found, mask = load_image(make_frame(np.dstack([rgb, half])), BLUE)
    np.testing.assert_array_equal(mask, half)
    np.testing.assert_array_equal(found, over_blue(rgb, half))
    assert found.dtype == mask.dtype == np.uint8


def test_a_mask_composites_an_image_without_alpha_unless_already_composited(make_frame, rgb, half):
    np.testing.assert_array_equal(load_image(make_frame(rgb, half), BLUE)[0], over_blue(rgb, half))
    found, mask = load_image(make_frame(rgb, half, composited=True), BLUE)
    np.testing.assert_array_equal(found, rgb)
    np.testing.assert_array_equal(mask, half)


def test_alpha_wins_over_the_mask_for_compositing(make_frame, rgb, half):
    found, mask = load_image(make_frame(np.dstack([rgb, half]), 255 - half), BLUE)
    np.testing.assert_array_equal(found, over_blue(rgb, half))
    np.testing.assert_array_equal(mask, 255 - half)


def test_without_mask_and_alpha_everything_is_foreground(make_frame, rgb):
    found, mask = load_image(make_frame(rgb), BLUE)
    np.testing.assert_array_equal(found, rgb)
    assert mask.min() == 255


def test_gray_and_palette_images_are_read(make_frame, rgb):
    assert load_image(make_frame(rgb[..., 0]), BLUE)[0].shape == (HEIGHT, WIDTH, 3)
    frame = make_frame(rgb)
    Image.fromarray(rgb).convert("P").save(frame.image_path)
    assert load_image(frame, BLUE)[0].shape == (HEIGHT, WIDTH, 3)


def test_jpeg_is_read_and_truncation_detected(make_frame, rgb):
    frame = make_frame(rgb)
    Image.fromarray(rgb).save(frame.image_path, format="JPEG")
    assert load_image(frame, BLUE)[0].shape == (HEIGHT, WIDTH, 3)
    frame.image_path.write_bytes(frame.image_path.read_bytes()[:-30])
    with pytest.raises(InputError, match="truncated"):
        read_header(frame.image_path)


def test_the_background_colour_is_detected(make_frame, rgb, half):
    flat = rgb.copy()
    flat[half == 0] = [255, 0, 51]
    assert detect_background(make_frame(flat, half)) == (1, 0, 0.2)
    assert detect_background(make_frame(rgb, half)) is None
    assert detect_background(make_frame(flat)) is None
    assert detect_background(make_frame(np.dstack([flat, half]), half)) is None, "alpha decides"
    assert detect_background(make_frame(flat, np.full_like(half, 255))) is None, "nothing of it is seen"


def test_broken_pixels_are_named_when_they_are_decoded(make_frame, rgb):
    frame = make_frame(rgb)
    content = bytearray(frame.image_path.read_bytes())
    at = content.index(b"IDAT") + 8
    content[at : at + 20] = bytes(20)
    frame.image_path.write_bytes(content)
    with pytest.raises(InputError, match=r"image\.png"):
        load_image(frame, BLUE)


def test_sixteen_bits_are_scaled_to_eight(make_frame, rgb, half):
    frame = make_frame(rgb, half)
    Image.fromarray(half.astype(np.uint16) * 257).save(frame.mask_path)
    Image.fromarray(rgb[..., 0].astype(np.uint16) * 257).save(frame.image_path)
    found, mask = load_image(replace(frame, composited=True), BLUE)
    np.testing.assert_array_equal(mask, half)
    np.testing.assert_array_equal(found, rgb[..., :1].repeat(3, -1))


def test_sixteen_bit_images_can_have_one_transparent_value(make_frame, rgb):
    frame = make_frame(rgb)
    values = rgb[..., 0].astype(np.uint16) * 257
    Image.fromarray(values).save(frame.image_path, transparency=int(values[2, 3]))
    mask = load_image(frame, BLUE)[1]
    np.testing.assert_array_equal(mask == 0, values == values[2, 3])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_mask_with_transparency_uses_its_alpha(make_frame, rgb, half, mode):
    frame = make_frame(rgb, half)
    white = Image.new(mode[:-1], (WIDTH, HEIGHT), "white")
    white.putalpha(Image.fromarray(half))
    white.save(frame.mask_path)
    np.testing.assert_array_equal(load_image(frame, BLUE)[1], half)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGB", "P", "1"])
def test_an_opaque_mask_uses_its_grey_value(make_frame, rgb, half, mode):
    frame = make_frame(rgb, half)
    binary = np.where(half > 127, 255, 0).astype(np.uint8)
    Image.fromarray(binary).convert(mode).save(frame.mask_path)
    np.testing.assert_array_equal(load_image(frame, BLUE)[1], binary)


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """The stored pixels that EXIF's orientation shows as `array`."""
    undo = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(undo[orientation](array))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_images_and_masks_are_rotated_by_exif(make_frame, rgb, half, orientation):
    frame = make_frame(rgb, half)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(turned(rgb, orientation)).save(frame.image_path, exif=exif)
    Image.fromarray(turned(half, orientation).astype(np.uint16) * 257).save(frame.mask_path, exif=exif)
    assert read_header(frame.image_path)[:2] == (WIDTH, HEIGHT)
    found, mask = load_image(replace(frame, composited=True), BLUE)
    np.testing.assert_array_equal(found, rgb)
    np.testing.assert_array_equal(mask, half)


def test_a_wrong_size_after_exif_rotation_is_explained(make_frame, rgb):
    frame = make_frame(rgb)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb).save(frame.image_path, exif=exif)
    with pytest.raises(InputError, match="10 x 12 after applying EXIF orientation"):
        load_image(frame, BLUE)


def test_cmyk_images_are_read(make_frame, rgb):
    frame = make_frame(np.full_like(rgb, (200, 100, 50)))
    Image.open(frame.image_path).convert("CMYK").save(frame.image_path, format="JPEG", quality=95)
    assert np.abs(load_image(frame, BLUE)[0].astype(int) - (200, 100, 50)).max() < 6


def test_white_masks_give_a_warning(make_frame, rgb, half):
    assert mask_warning([make_frame(rgb, half)]) is None
    assert "white everywhere" in mask_warning([make_frame(rgb, np.full_like(half, 255))])
    assert "no masks" in mask_warning([make_frame(rgb)])
    nobody = make_frame(rgb, np.zeros_like(half))
    assert "no person is seen" in mask_warning([nobody]) and mask_warning([nobody, make_frame(rgb, half)]) is None


def test_an_image_with_a_huge_declared_size_is_refused_without_decoding(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(10_000_000))
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    with pytest.raises(InputError, match=r"bomb\.png"):
        read_header(tmp_path / "bomb.png")


def test_other_formats_are_refused(tmp_path, rgb):
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, format="TIFF")
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    with pytest.raises(InputError, match="not a PNG or JPEG"):
        read_header(tmp_path / "a.png")
