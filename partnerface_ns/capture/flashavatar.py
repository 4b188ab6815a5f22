"""FlashAvatar's folder: metrical-tracker's `checkpoint/%05d.frame` beside `imgs/%05d.jpg` and `alpha/%05d.jpg`.

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
    """Read and check a subject's folder.

    Raises:
        InputError: names the first file that cannot be used, and why.
    """
    images, masks = (_by_number(root / folder) for folder in (_IMAGES, _MASKS))

    def images_of(number: int, stem: str) -> tuple[str, str | None]:
        usual = f"{number + 1:05d}.jpg"
        mask = f"{_MASKS}/{masks.get(number + 1, usual)}" if masks else None
        return f"{_IMAGES}/{images.get(number + 1, usual)}", mask

    return read_frame_files(root, "flashavatar", images_of)


def _by_number(folder: Path) -> dict[int, str]:
    """Names of the files that a number alone names."""
    files = list_files(folder, _SUFFIXES) if folder.is_dir() else []
    return {int(path.stem): path.name for path in files if path.stem.isascii() and path.stem.isdecimal()}


def looks_like_flashavatar(root: Path) -> bool:
    """Whether the folder has the tracker's checkpoints and FlashAvatar's images."""
    checkpoints = root / FOLDER
    return checkpoints.is_dir() and bool(list_files(checkpoints, [".frame"])) and bool(_by_number(root / _IMAGES))
