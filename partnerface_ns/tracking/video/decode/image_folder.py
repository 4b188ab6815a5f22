"""Reads a folder of images as a video, in order of the numbers in their names.

Images are rotated upright and converted to sRGB; alpha is kept.
"""

from __future__ import annotations

import io
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import list_files, natural_key
from partnerface_ns.tracking.video.decode.frame import FOLDER_FPS, Note, VideoFrame

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")


def list_images(folder: Path) -> list[Path]:
    """List the images of a folder in order of their numbers, without hidden files.

    Raises:
        InputError: there is no image, or two images have one number.
    """
    paths = list_files(folder, IMAGE_SUFFIXES)
    if not paths:
        raise InputError(folder, "no image in this folder", expected=" ".join(IMAGE_SUFFIXES))
    by_number: dict[object, Path] = {}
    for path in paths:
        first = by_number.setdefault(natural_key(path.stem)[0], path)
        if first is not path:
            names = f"{first.name} and {path.name}"
            raise InputError(folder, "two images of one frame", actual=names, hint="keep one image for each frame")
    return paths


def read_folder(folder: Path, note: Note) -> Generator[VideoFrame, None, None]:
    """Yield all images of a folder as frames.

    Args:
        folder: images of one size.
        note: receives sentences about what was converted.

    Raises:
        InputError: as `list_images`; sizes differ; an image cannot be read.
    """
    paths = list_images(folder)
    _require_one_size(paths)
    converted: set[str] = set()
    size: tuple[int, int] | None = None
    for index, path in enumerate(paths):
        pixels, profile = _read(path)
        columns_rows = (pixels.shape[1], pixels.shape[0])
        size = columns_rows if size is None else size
        if columns_rows != size:
            raise _size_error(path, size, columns_rows)
        if profile is not None and profile not in converted:
            converted.add(profile)
            note(f"The images' colours are {profile}: they were converted to sRGB.")
        yield VideoFrame.from_pixels(index / FOLDER_FPS, pixels)


def image_size(folder: Path) -> tuple[int, int]:
    """Return the stored columns and rows of a folder's first image."""
    return _stored_size(list_images(folder)[0])


def _require_one_size(paths: list[Path]) -> None:
    """Compare the sizes in all headers before the first image is decoded; rotated images are accepted."""
    size = _stored_size(paths[0])
    for path in paths[1:]:
        stored = _stored_size(path)
        if sorted(stored) != sorted(size):
            raise _size_error(path, size, stored)


def _size_error(path: Path, size: tuple[int, int], found: tuple[int, int]) -> InputError:
    expected, other = (f"{columns} x {rows}" for columns, rows in (size, found))
    return InputError(path, "all images must be of one size", expected=expected, actual=other)


def _stored_size(path: Path) -> tuple[int, int]:
    with _open(path) as image:
        return image.size


def _open(path: Path) -> Any:
    from PIL import Image

    try:
        return Image.open(path)
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(path, "the image cannot be read", actual=shorten(error)) from error


def _read(path: Path) -> tuple[UInt8[np.ndarray, "rows columns channels"], str | None]:
    """Read RGB or RGBA pixels; also returns the name of the colour profile if one was converted."""
    from PIL import ImageOps

    with _open(path) as image:
        try:
            image.load()
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(path, "the image cannot be read", actual=shorten(error)) from error
        upright = ImageOps.exif_transpose(image)
        has_alpha = upright.mode in _ALPHA_MODES or "transparency" in upright.info
        colours, profile = _to_srgb(_to_bytes(upright, path), upright.info.get("icc_profile"))
        pixels = np.array(colours.convert("RGB"))
        if has_alpha:
            alpha = np.asarray(upright.convert("RGBA").getchannel("A"))
            pixels = np.dstack([pixels, alpha])
        return pixels, profile


def _to_bytes(image: Any, path: Path) -> Any:
    """Convert to 8 bits per channel; 16-bit grey is scaled, because Pillow would clip it."""
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise InputError(path, "the image cannot be read", expected="8 or 16 bits a channel", actual=image.mode)
    return Image.fromarray(np.round(values / 257).astype(np.uint8))


def _to_srgb(image: Any, icc: bytes | None) -> tuple[Any, str | None]:
    """Convert an image from its embedded profile to sRGB; also returns the profile's name if it is not sRGB."""
    from PIL import ImageCms

    if not icc:
        return image, None
    try:
        profile: Any = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        name = ImageCms.getProfileDescription(profile).strip()
        if "srgb" in name.lower():
            return image, None
        space = profile.profile.xcolor_space.strip()
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[space]
        source = image if image.mode == mode else image.convert(mode)
        return ImageCms.profileToProfile(source, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"), name
    except (ImageCms.PyCMSError, OSError, KeyError):
        return image, None  # an invalid profile: the image is taken as sRGB, as viewers do
