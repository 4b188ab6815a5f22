"""Images, alpha channels and mattes of the frames, as PNG files in the work folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from partnerface_ns.tracking.video.work_folder import WorkFolder


def image_path(folder: Path, index: int) -> Path:
    """The file of a frame in a folder of the work folder."""
    return folder / f"{index:05d}.png"


def read_image(work: WorkFolder, index: int) -> UInt8[np.ndarray, "rows columns 3"]:
    """Read the square image of a frame."""
    with Image.open(image_path(work.folder("images"), index)) as image:
        return np.asarray(image)


def write_image(path: Path, values: UInt8[np.ndarray, "..."] | Float[np.ndarray, "..."]) -> None:
    """Write a grey or RGB image: 0 to 255, or floats in [0, 1]."""
    pixels = values if values.dtype == np.uint8 else np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
    Image.fromarray(pixels).save(path, compress_level=1)


def read_channel(path: Path) -> Float[np.ndarray, "rows columns"]:
    """Read a grey image as values in [0, 1], float32."""
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.float32) / 255


def read_matte(work: WorkFolder, index: int) -> UInt8[np.ndarray, "rows columns"]:
    """Read the matte of a frame, 0 to 255; 255 everywhere if the run makes no mattes."""
    path = image_path(work.folder("mattes"), index)
    if not path.exists():
        return np.full(read_image(work, index).shape[:2], 255, dtype=np.uint8)
    with Image.open(path) as image:
        return np.asarray(image)


def read_foreground(work: WorkFolder, index: int) -> UInt8[np.ndarray, "rows columns 3"]:
    """Read the foreground colours of a frame; the image itself if the run makes no mattes."""
    path = image_path(work.folder("foregrounds"), index)
    if not path.exists():
        return read_image(work, index)
    with Image.open(path) as image:
        return np.asarray(image)
