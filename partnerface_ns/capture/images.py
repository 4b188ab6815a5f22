"""Images and masks: a cheap check of all before any work, and loading one composited on a background.

Colours are uint8 (height, width, 3), masks uint8 (height, width) with the person at 255. An image is a PNG or JPEG, or
the arrays `img` (1, height, width, 3) and `parsing` (1, height, width; 0 is background) of an npz. Sizes and pixels are
those after the turn that EXIF asks for. Channels of 16 bits are scaled to 8. A mask with transparent parts says the
person by its alpha, any other by its grey value.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from partnerface_ns.capture.capture import Frame
from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import require_file
from partnerface_ns.common.npz_file import npz_shapes, read_npz, require_bounded

MAX_SIDE = 8192
"""Largest width and height of an image, in pixels."""
_MAX_BYTES = 256 << 20
_END_MARKS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}
"""Formats that are read, and what the last bytes of a whole file hold."""
_ALPHA_MODES = ("RGBA", "LA", "PA")
_EXIF_KEYS = {"exif", "Raw profile type exif", "XML:com.adobe.xmp"}
"""Entries of a PNG that can hold an orientation."""
_SWAPPING_TURNS = range(5, 9)
"""EXIF orientations that make a lying image upright; the others keep its width."""
_MIN_BACKGROUND = 16
"""Pixels of background that must be seen to tell its colour."""
_MAX_PIXEL = 65535.0
_UNIFORM = 6
"""Levels of 255 within which colours count as one background."""


class Header(NamedTuple):
    """What an image's file says of itself."""

    width: int
    height: int
    has_alpha: bool
    orientation: int = 1
    """EXIF's number for how the stored pixels are to be turned; 1 leaves them."""


def read_header(path: Path) -> Header:
    """Size and kind of an image, without decoding it; a file that was cut off is found.

    Raises:
        InputError: missing, cut off, or neither PNG nor JPEG.
    """
    if path.suffix == ".npz":
        return _npz_header(path)
    with _opened(path) as image:
        orientation = _orientation(image)
        width, height = image.size if orientation not in _SWAPPING_TURNS else image.size[::-1]
        header = Header(width, height, _has_alpha(image), orientation)
        mark = _END_MARKS[image.format or "PNG"]
    with path.open("rb") as file:
        file.seek(-min(4096, os.stat(path).st_size), os.SEEK_END)
        if mark not in file.read():
            raise InputError(path, "the image is cut off")
    return header


def check_images(frame: Frame) -> Header:
    """Check that a frame's image and mask are there, whole and as large as its camera says.

    Raises:
        InputError: names the file at fault.
    """
    assert frame.image_path is not None
    header = read_header(frame.image_path)
    camera = frame.camera
    if (header.width, header.height) != (camera.width, camera.height):
        raise InputError(
            frame.image_path,
            "the image has another size than its camera says",
            expected=f"{camera.width} x {camera.height}",
            found=f"{header.width} x {header.height}" + _turn_words(header),
        )
    if frame.mask_path is not None:
        mask = read_header(frame.mask_path)
        if mask[:2] != header[:2]:
            raise InputError(
                frame.mask_path,
                "the mask has another size than its image",
                expected=f"{header.width} x {header.height}",
                found=f"{mask.width} x {mask.height}" + _turn_words(mask),
            )
    return header


def load_image(frame: Frame, background: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """A frame's colours over the background, and its foreground mask.

    An image with its own alpha (or parsing) is composited by that; one without by its mask, unless it already shows
    the capture's background.

    Args:
        frame: has an image.
        background: colour in [0, 1].

    Returns:
        Colours uint8 (height, width, 3) and mask uint8 (height, width).

    Raises:
        InputError: image or mask cannot be read, or have another size than the camera.
    """
    check_images(frame)
    assert frame.image_path is not None
    rgb, alpha = _npz_image(frame.image_path) or _decoded(frame.image_path, _split)
    mask = alpha if frame.mask_path is None else _decoded(frame.mask_path, _mask)
    if mask is None:
        mask = np.full(rgb.shape[:2], 255, np.uint8)
    cover = alpha if alpha is not None else (None if frame.composited else mask)
    return (rgb if cover is None else _over(rgb, cover, background)), mask


def mask_warning(frames: Sequence[Frame]) -> str | None:
    """A warning where no mask hides anything, so that the background would be learned as the person; else None.

    Args:
        frames: some of a capture's, with images.

    Raises:
        InputError: an image or mask cannot be read.
    """
    if not frames or any(load_image(frame, (1.0, 1.0, 1.0))[1].min() < 255 for frame in frames):
        return None
    what = "there are no masks" if frames[0].mask_path is None else "the masks are white everywhere"
    return f"{what}: the background is learned as if it were the person"


def detect_background(frame: Frame) -> tuple[float, float, float] | None:
    """The one colour that an image without alpha shows wherever its mask says background.

    None if it has several, alpha decides, or there is no background to be seen.
    """
    assert frame.image_path is not None
    rgb, alpha = _decoded(frame.image_path, _split)
    if frame.mask_path is None or (alpha is not None and alpha.min() < 255):
        return None
    outside = rgb[_decoded(frame.mask_path, _mask) == 0].astype(np.int16)
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
        found = {key: shapes.get(key) for key in ("img", "parsing")}
        raise InputError(path, "no image", key="img", expected="(1, h, w, 3), parsing (1, h, w)", found=str(found))
    if not 0 < min(size) <= max(size) <= MAX_SIDE:
        raise InputError(path, "the image is too large", expected=f"1 to {MAX_SIDE} a side", found=size)
    return Header(size[1], size[0], "parsing" in shapes)


def _npz_image(path: Path) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Colours and mask out of an npz; None for any other file."""
    if path.suffix != ".npz":
        return None
    arrays = read_npz(path, ("img", "parsing"))
    rgb = arrays["img"][0]
    if rgb.dtype.kind not in "fiu":
        raise InputError(path, "unknown kind of pixels", key="img", expected="0 to 255", found=rgb.dtype)
    require_bounded(rgb, _MAX_PIXEL, path, "img")
    if rgb.dtype == np.uint16:
        rgb = _scaled_to_8_bits(rgb)
    if rgb.dtype.kind == "f" and rgb.max() <= 1:
        rgb = rgb * 255
    parsing = arrays.get("parsing")
    if parsing is not None and parsing.dtype.kind not in "fiub":
        raise InputError(path, "unknown kind of pixels", key="parsing", expected="numbers", found=parsing.dtype)
    mask = None if parsing is None else parsing[0] != 0
    return rgb.clip(0, 255).astype(np.uint8), None if mask is None else mask.astype(np.uint8) * 255


def _over(rgb: np.ndarray, alpha: np.ndarray, background: tuple[float, float, float]) -> np.ndarray:
    alpha = alpha[..., None].astype(np.float32) / 255
    blended = rgb * alpha + 255 * np.asarray(background, np.float32) * (1 - alpha)
    return (blended + 0.5).astype(np.uint8)


def _split(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours, and alpha where the image has one that hides anything."""
    if not _has_alpha(image):
        return np.array(image.convert("RGB")), None
    rgba = np.array(image.convert("RGBA"))
    alpha = rgba[..., 3]
    return rgba[..., :3].copy(), None if alpha.min() == 255 else alpha


def _mask(image: Image.Image) -> np.ndarray:
    """The person: alpha where it hides anything, else the grey value."""
    alpha = _split(image)[1] if _has_alpha(image) else None
    return np.array(image.convert("L")) if alpha is None else alpha


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in _ALPHA_MODES or "transparency" in image.info


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation; a PNG is not decoded for it, as Pillow would to look behind the pixels."""
    if image.format == "PNG" and not _EXIF_KEYS & image.info.keys():
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # whatever the parser stumbles on is the file's fault
        raise InputError(image.filename, "its EXIF data cannot be read", found=shorten(error)) from error


def _turn_words(header: Header) -> str:
    return "" if header.orientation == 1 else f" after the turn that EXIF asks for (orientation {header.orientation})"


def _scaled_to_8_bits(values: np.ndarray) -> np.ndarray:
    return ((values.astype(np.int64) + 128) // 257).clip(0, 255).astype(np.uint8)


def _plain(image: Image.Image) -> Image.Image:
    """The image upright, 8 bits a channel; Pillow itself cuts brighter values of 16 bits down to white."""
    if not image.mode.startswith("I"):
        return ImageOps.exif_transpose(image)
    values, hidden = np.array(image), image.info.get("transparency")
    gray = Image.fromarray(_scaled_to_8_bits(values))
    if hidden is not None:
        gray.putalpha(Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8)))
    gray.info["exif"] = image.info.get("exif", b"")
    return ImageOps.exif_transpose(gray)


def _decoded(path: Path, take: Callable[[Image.Image], object]) -> object:
    with _opened(path) as image:
        try:
            return take(_plain(image))
        except Exception as error:  # whatever the decoder stumbles on is the file's fault
            raise InputError(path, "the image cannot be decoded", found=shorten(error)) from error


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image of a size that can be held, its pixels not decoded yet."""
    require_file(path, max_bytes=_MAX_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=tuple(_END_MARKS))
    except Exception as error:  # whatever the parser stumbles on is the file's fault
        raise InputError(path, "not a PNG or JPEG image", found=shorten(error)) from error
    with image:
        if max(image.size) > MAX_SIDE:
            raise InputError(path, "the image is too large", expected=f"at most {MAX_SIDE} a side", found=image.size)
        yield image
