"""A folder of images as a video: upright, in order of their numbers, in sRGB, with alpha where they have it."""

from __future__ import annotations

import io
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import list_files, natural_key
from partnerface_ns.tracking.frame import FOLDER_FPS, Note, VideoFrame

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")


def images_of(folder: Path) -> list[Path]:
    """The images of a folder in order of their numbers, without hidden files.

    Raises:
        InputError: there is none, two are of one frame, or they differ in size.
    """
    paths = list_files(folder, IMAGE_SUFFIXES)
    if not paths:
        raise InputError(folder, "no image in this folder", expected=" ".join(IMAGE_SUFFIXES))
    by_number: dict[object, Path] = {}
    for path in paths:
        first = by_number.setdefault(natural_key(path.stem)[0], path)
        if first is not path:
            found = f"{first.name} and {path.name}"
            raise InputError(folder, "two images of one frame", found=found, hint="keep one image for each frame")
    return paths


def read_folder(folder: Path, note: Note) -> Generator[VideoFrame, None, None]:
    """All images of a folder as frames.

    Args:
        folder: images of one size.
        note: is told what was converted.

    Raises:
        InputError: as `images_of`, or an image cannot be read.
    """
    paths = images_of(folder)
    _require_one_size(paths)
    converted: set[str] = set()
    size: tuple[int, int] | None = None
    for index, path in enumerate(paths):
        pixels, profile = _read(path)
        shown = (pixels.shape[1], pixels.shape[0])
        size = shown if size is None else size
        if shown != size:
            raise _other_size(path, size, shown)
        if profile is not None and profile not in converted:
            converted.add(profile)
            note(f"The images' colours are {profile}: they were converted to sRGB.")
        yield VideoFrame.of(index / FOLDER_FPS, pixels)


def size_of_images(folder: Path) -> tuple[int, int]:
    """Columns and rows of a folder's first image, as it is stored."""
    return _stored_size(images_of(folder)[0])


def _require_one_size(paths: list[Path]) -> None:
    """Compare the sizes that all headers say, before the first image is decoded; turned images pass."""
    size = _stored_size(paths[0])
    for path in paths[1:]:
        found = _stored_size(path)
        if sorted(found) != sorted(size):
            raise _other_size(path, size, found)


def _other_size(path: Path, size: tuple[int, int], found: tuple[int, int]) -> InputError:
    expected, other = (f"{columns} x {rows}" for columns, rows in (size, found))
    return InputError(path, "all images must be of one size", expected=expected, found=other)


def _stored_size(path: Path) -> tuple[int, int]:
    with _opened(path) as image:
        return image.size


def _opened(path: Path) -> Any:
    from PIL import Image

    try:
        return Image.open(path)
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(path, "the image cannot be read", found=shorten(error)) from error


def _read(path: Path) -> tuple[UInt8[np.ndarray, "rows columns channels"], str | None]:
    """RGB or RGBA pixels, and the name of the colour profile that they were converted from, if they were."""
    from PIL import ImageOps

    with _opened(path) as image:
        try:
            image.load()
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(path, "the image cannot be read", found=shorten(error)) from error
        upright = ImageOps.exif_transpose(image)
        has_alpha = upright.mode in _ALPHA_MODES or "transparency" in upright.info
        colours, profile = _to_srgb(_to_bytes(upright, path), upright.info.get("icc_profile"))
        pixels = np.array(colours.convert("RGB"))
        if has_alpha:
            alpha = np.asarray(upright.convert("RGBA").getchannel("A"))
            pixels = np.dstack([pixels, alpha])
        return pixels, profile


def _to_bytes(image: Any, path: Path) -> Any:
    """The image with 8 bits a channel; 16-bit grey is scaled, which Pillow itself would clip."""
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise InputError(path, "the image cannot be read", expected="8 or 16 bits a channel", found=image.mode)
    return Image.fromarray(np.round(values / 257).astype(np.uint8))


def _to_srgb(image: Any, icc: bytes | None) -> tuple[Any, str | None]:
    """Colours in sRGB, by the profile that the image carries, and the profile's name if it is another one."""
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
        return image, None  # a profile that makes no sense: the image is taken as sRGB, as viewers do
