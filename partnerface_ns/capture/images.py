"""Images and masks: cheap checks of all files before any work, and loading one image composited on a background.

Colours are uint8 (height, width, 3), masks uint8 (height, width) with the person at 255. An image is a PNG or JPEG, or
the arrays `img` (1, height, width, 3) and `parsing` (1, height, width; 0 is background) of an npz. EXIF orientation is
applied. 16-bit channels are scaled to 8 bits. The foreground of a mask file is its alpha if it has transparent pixels,
else its grey value.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps

from partnerface_ns.capture.capture import Frame
from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import require_file
from partnerface_ns.common.npz_file import npz_shapes, read_npz, require_bounded

Result = TypeVar("Result")

MAX_SIDE = 8192
"""Largest width and height of an image, in pixels."""
_MAX_BYTES = 256 << 20
_END_MARKS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}
"""Formats that are read, and the bytes at the end of a complete file."""
_ALPHA_MODES = ("RGBA", "LA", "PA")
_EXIF_KEYS = {"exif", "Raw profile type exif", "XML:com.adobe.xmp"}
"""Metadata of a PNG that can contain an orientation."""
_SWAPPING_TURNS = range(5, 9)
"""EXIF orientations that swap width and height."""
_MIN_BACKGROUND = 16
"""Least number of background pixels from which their colour is measured."""
_MAX_PIXEL = 65535.0
_UNIFORM = 6
"""Difference in levels of 255 within which colours count as equal."""


class Header(NamedTuple):
    """Size and kind of an image file, without its pixels."""

    width: int
    height: int
    has_alpha: bool
    orientation: int = 1
    """EXIF orientation of the stored pixels; 1 is upright."""


def read_header(path: Path) -> Header:
    """Read size and kind of an image without decoding it. Truncated files are detected.

    Raises:
        InputError: missing, truncated, or neither PNG nor JPEG.
    """
    if path.suffix == ".npz":
        return _npz_header(path)
    with _open_image(path) as image:
        orientation = _orientation(image, path)
        width, height = image.size if orientation not in _SWAPPING_TURNS else image.size[::-1]
        header = Header(width, height, _has_alpha(image), orientation)
        mark = _END_MARKS[image.format or "PNG"]
    with path.open("rb") as file:
        file.seek(-min(4096, os.stat(path).st_size), os.SEEK_END)
        if mark not in file.read():
            raise InputError(path, "the image is truncated")
    return header


def check_images(frame: Frame) -> Header:
    """Check that a frame's image and mask exist, are complete and have the camera's size.

    Raises:
        InputError: a check fails. Names the file.
    """
    assert frame.image_path is not None
    header = read_header(frame.image_path)
    camera = frame.camera
    if (header.width, header.height) != (camera.width, camera.height):
        raise InputError(
            frame.image_path,
            "the image has another size than its camera",
            expected=f"{camera.width} x {camera.height}",
            actual=f"{header.width} x {header.height}" + _turn_words(header),
        )
    if frame.mask_path is not None:
        mask = read_header(frame.mask_path)
        if mask[:2] != header[:2]:
            raise InputError(
                frame.mask_path,
                "the mask has another size than its image",
                expected=f"{header.width} x {header.height}",
                actual=f"{mask.width} x {mask.height}" + _turn_words(mask),
            )
    return header


def load_image(frame: Frame, background: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """A frame's image composited on a background, and its foreground mask.

    An image with alpha (or parsing) is composited with it. Other images are composited with their mask, unless they
    already show the capture's background.

    Args:
        frame: a frame with an image.
        background: colour in [0, 1].

    Returns:
        Colours uint8 (height, width, 3) and mask uint8 (height, width).

    Raises:
        InputError: image or mask cannot be read or has another size than the camera.
    """
    check_images(frame)
    assert frame.image_path is not None
    rgb, alpha = _npz_image(frame.image_path) or _decode(frame.image_path, _split_alpha)
    mask = alpha if frame.mask_path is None else _decode(frame.mask_path, _foreground)
    if mask is None:
        mask = np.full(rgb.shape[:2], 255, np.uint8)
    cover = alpha if alpha is not None else (None if frame.composited else mask)
    return (rgb if cover is None else _composite(rgb, cover, background)), mask


def mask_warning(frames: Sequence[Frame]) -> str | None:
    """A warning if all masks are white or all are black; else None.

    White masks make the background part of the person, and black masks make the person invisible.

    Args:
        frames: some frames of a capture, with images.

    Raises:
        InputError: an image or mask cannot be read.
    """
    ranges = [(mask.min(), mask.max()) for mask in (load_image(frame, (1.0, 1.0, 1.0))[1] for frame in frames)]
    if ranges and all(highest == 0 for _, highest in ranges):
        return "the masks are black everywhere, or the images transparent: no person is seen"
    if not ranges or any(lowest < 255 for lowest, _ in ranges):
        return None
    fault = "there are no masks" if frames[0].mask_path is None else "the masks are white everywhere"
    return f"{fault}: the background is learned as if it were the person"


def detect_background(frame: Frame) -> tuple[float, float, float] | None:
    """The uniform colour that an image without alpha shows wherever its mask is background.

    None if the colour is not uniform, if the image has alpha, or if no background is visible.
    """
    assert frame.image_path is not None
    rgb, alpha = _decode(frame.image_path, _split_alpha)
    if frame.mask_path is None or (alpha is not None and alpha.min() < 255):
        return None
    outside = rgb[_decode(frame.mask_path, _foreground) == 0].astype(np.int16)
    if len(outside) < _MIN_BACKGROUND:
        return None
    color = np.median(outside, 0)
    if (np.abs(outside - color).max(-1) <= _UNIFORM).mean() < 0.98:
        return None
    red, green, blue = (color / 255).tolist()
    return red, green, blue


def _npz_header(path: Path) -> Header:
    shapes = npz_shapes(path)
    size = shapes.get("img", ())[1:3]
    if shapes.get("img") != (1, *size, 3) or shapes.get("parsing", (1, *size)) != (1, *size) or len(size) != 2:
        actual = {key: shapes.get(key) for key in ("img", "parsing")}
        raise InputError(path, "no image", key="img", expected="(1, h, w, 3), parsing (1, h, w)", actual=str(actual))
    if not 0 < min(size) <= max(size) <= MAX_SIDE:
        raise InputError(path, "the image is too large", expected=f"1 to {MAX_SIDE} a side", actual=size)
    return Header(size[1], size[0], "parsing" in shapes)


def _npz_image(path: Path) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Colours and mask from an npz; None for any other file."""
    if path.suffix != ".npz":
        return None
    arrays = read_npz(path, ("img", "parsing"))
    rgb = arrays["img"][0]
    if rgb.dtype.kind not in "fiu":
        raise InputError(path, "unknown kind of pixels", key="img", expected="0 to 255", actual=rgb.dtype)
    require_bounded(rgb, _MAX_PIXEL, path, "img")
    if rgb.dtype == np.uint16:
        rgb = _scale_to_8_bits(rgb)
    if rgb.dtype.kind == "f" and rgb.max() <= 1:
        rgb = rgb * 255
    parsing = arrays.get("parsing")
    if parsing is not None and parsing.dtype.kind not in "fiub":
        raise InputError(path, "unknown kind of pixels", key="parsing", expected="numbers", actual=parsing.dtype)
    mask = None if parsing is None else parsing[0] != 0
    return rgb.clip(0, 255).astype(np.uint8), None if mask is None else mask.astype(np.uint8) * 255


def _composite(rgb: np.ndarray, alpha: np.ndarray, background: tuple[float, float, float]) -> np.ndarray:
    alpha = alpha[..., None].astype(np.float32) / 255
    blended = rgb * alpha + 255 * np.asarray(background, np.float32) * (1 - alpha)
    return (blended + 0.5).astype(np.uint8)


def _split_alpha(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours, and alpha if any pixel is transparent."""
    if not _has_alpha(image):
        return np.array(image.convert("RGB")), None
    rgba = np.array(image.convert("RGBA"))
    alpha = rgba[..., 3]
    return rgba[..., :3].copy(), None if alpha.min() == 255 else alpha


def _foreground(image: Image.Image) -> np.ndarray:
    """The foreground: alpha if any pixel is transparent, else the grey value."""
    alpha = _split_alpha(image)[1] if _has_alpha(image) else None
    return np.array(image.convert("L")) if alpha is None else alpha


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in _ALPHA_MODES or "transparency" in image.info


def _orientation(image: Image.Image, path: Path) -> int:
    """EXIF orientation. For a PNG, Pillow would decode all pixels to look for EXIF data behind them; this avoids it."""
    if image.format == "PNG" and not _EXIF_KEYS & image.info.keys():
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # a broken file can make the parser raise anything
        raise InputError(path, "its EXIF data cannot be read", actual=shorten(error)) from error


def _turn_words(header: Header) -> str:
    return "" if header.orientation == 1 else f" after applying EXIF orientation {header.orientation}"


def _scale_to_8_bits(values: np.ndarray) -> np.ndarray:
    return ((values.astype(np.int64) + 128) // 257).clip(0, 255).astype(np.uint8)


def _to_upright_8_bits(image: Image.Image) -> Image.Image:
    """The image upright with 8 bits per channel. Pillow itself would clip 16-bit values to white."""
    if not image.mode.startswith("I"):
        return ImageOps.exif_transpose(image)
    values, transparent = np.array(image), image.info.get("transparency")
    gray = Image.fromarray(_scale_to_8_bits(values))
    if transparent is not None:
        gray.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    gray.info["exif"] = image.info.get("exif", b"")
    return ImageOps.exif_transpose(gray)


def _decode(path: Path, convert: Callable[[Image.Image], Result]) -> Result:
    """Open an image and apply `convert` to it, upright and with 8 bits per channel."""
    with _open_image(path) as image:
        try:
            return convert(_to_upright_8_bits(image))
        except Exception as error:  # a broken file can make the decoder raise anything
            raise InputError(path, "the image cannot be decoded", actual=shorten(error)) from error


@contextmanager
def _open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image of a bounded size without decoding its pixels."""
    require_file(path, max_bytes=_MAX_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=tuple(_END_MARKS))
    except Exception as error:  # a broken file can make the parser raise anything
        raise InputError(path, "not a PNG or JPEG image", actual=shorten(error)) from error
    with image:
        if max(image.size) > MAX_SIDE:
            raise InputError(path, "the image is too large", expected=f"at most {MAX_SIDE} a side", actual=image.size)
        yield image
