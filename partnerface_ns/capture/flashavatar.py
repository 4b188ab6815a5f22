"""Reader for FlashAvatar's layout: metrical-tracker's `checkpoint/%05d.frame`, `imgs/%05d.jpg` and `alpha/%05d.jpg`.

Images count from 1 and the tracker's files from 0: image n + 1 belongs to file n.
"""

from __future__ import annotations

from pathlib import Path

from partnerface_ns.capture.capture import Capture
from partnerface_ns.capture.metrical_tracker import FOLDER, read_frame_files
from partnerface_ns.common.files import list_files

_IMAGES, _MASKS = "imgs", "alpha"
_SUFFIXES = (".jpg", ".jpeg", ".png")


def read_flashavatar(root: Path) -> Capture:
    """Read and check a capture folder.

    Raises:
        InputError: a file cannot be used. Names the file and the reason.
    """
    images, masks = (_by_number(root / folder) for folder in (_IMAGES, _MASKS))

    def image_names(number: int, stem: str) -> tuple[str, str | None]:
        default = f"{number + 1:05d}.jpg"
        mask = f"{_MASKS}/{masks.get(number + 1, default)}" if masks else None
        return f"{_IMAGES}/{images.get(number + 1, default)}", mask

    return read_frame_files(root, "flashavatar", image_names)


def _by_number(folder: Path) -> dict[int, str]:
    """Names of the image files whose stem is a number, by that number."""
    files = list_files(folder, _SUFFIXES) if folder.is_dir() else []
    return {int(path.stem): path.name for path in files if path.stem.isascii() and path.stem.isdecimal()}


def looks_like_flashavatar(root: Path) -> bool:
    """Whether the folder has the tracker's checkpoints and FlashAvatar's images."""
    checkpoints = root / FOLDER
    return checkpoints.is_dir() and bool(list_files(checkpoints, [".frame"])) and bool(_by_number(root / _IMAGES))
