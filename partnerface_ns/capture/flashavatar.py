"""FlashAvatar's folder: metrical-tracker's `checkpoint/%05d.frame` beside `imgs/%05d.jpg` and `alpha/%05d.jpg`.

Pictures count from 1 and the tracker's files from 0: picture n + 1 belongs to file n.
"""

from __future__ import annotations

from pathlib import Path

from partnerface_ns.capture.capture import Capture
from partnerface_ns.capture.metrical_tracker import FOLDER, capture_of_frame_files
from partnerface_ns.common.files import listed_files

_PICTURES, _MASKS = "imgs", "alpha"
_SUFFIXES = (".jpg", ".jpeg", ".png")


def read_flashavatar(root: Path) -> Capture:
    """Read and check a subject's folder.

    Raises:
        SubjectError: names the first file that cannot be used, and why.
    """
    pictures, masks = (_by_number(root / folder) for folder in (_PICTURES, _MASKS))

    def pictures_of(number: int, stem: str) -> tuple[str, str | None]:
        usual = f"{number + 1:05d}.jpg"
        mask = f"{_MASKS}/{masks.get(number + 1, usual)}" if masks else None
        return f"{_PICTURES}/{pictures.get(number + 1, usual)}", mask

    return capture_of_frame_files(root, "flashavatar", pictures_of)


def _by_number(folder: Path) -> dict[int, str]:
    """Names of the files that a number alone names."""
    files = listed_files(folder, _SUFFIXES) if folder.is_dir() else []
    return {int(path.stem): path.name for path in files if path.stem.isascii() and path.stem.isdecimal()}


def looks_like_flashavatar(root: Path) -> bool:
    """Whether the folder has the tracker's checkpoints and FlashAvatar's pictures."""
    checkpoints = root / FOLDER
    return checkpoints.is_dir() and bool(listed_files(checkpoints, [".frame"])) and bool(_by_number(root / _PICTURES))
