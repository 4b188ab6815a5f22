"""Atomic writing of folders: a folder appears complete or not at all.

Unfinished work is in a hidden folder on the same file system: next to a new folder, or inside an existing one. This
also works for a mount point, the current folder and a link to a folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import require_writable, write_failure

_SYSTEM_FOLDERS = ("lost+found", "System Volume Information")
"""Folders at the root of file systems."""


@contextmanager
def new_folder(root: Path) -> Iterator[Path]:
    """A hidden folder to write to. It becomes `root` at the end and is removed after an error.

    Raises:
        InputError: `root` exists and is not empty, or cannot be written.
    """
    require_new(root)
    partial = unfinished_folder(root, f"{os.getpid()}.partial")
    try:
        created = make_folder(partial)
        try:
            yield partial
            publish(partial, root)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            remove_empty(created)
    except OSError as error:
        raise write_failure(root, error) from error


def require_new(root: Path) -> None:
    """Check that a folder can be created here. Call it before long work starts.

    An existing folder may contain hidden files.

    Raises:
        InputError: the folder exists and is not empty, or cannot be written.
    """
    if root.exists() and (not root.is_dir() or not is_free(root)):
        raise InputError(root, "there is something here already", expected="a new or empty folder")
    require_writable(root.resolve())


def is_free(folder: Path) -> bool:
    """Whether a folder contains nothing but hidden files and folders of the file system."""
    return all(path.name.startswith(".") or path.name in _SYSTEM_FOLDERS for path in folder.iterdir())


def unfinished_folder(root: Path, name: str) -> Path:
    """The path for unfinished work on `root`. The folder is not created."""
    root = root.resolve()
    return root / f".{name}" if root.is_dir() else root.with_name(f".{root.name}.{name}")


def publish(finished: Path, root: Path) -> None:
    """Move a finished folder to `root`, or its content if `root` exists. Both are on one file system."""
    root = root.resolve()
    if not root.exists():
        os.replace(finished, root)
        return
    moved: list[Path] = []
    try:
        for path in sorted(finished.iterdir(), key=lambda path: (path.is_file(), path.name)):
            os.rename(path, root / path.name)  # files last, because they refer to the folders
            moved.append(path)
    except OSError:
        for path in moved:
            os.rename(root / path.name, path)
        raise


def make_folder(folder: Path) -> list[Path]:
    """Create a folder and its parents. Returns those that did not exist, outermost first."""
    created = [path for path in (folder, *folder.parents) if not path.exists()][::-1]
    folder.mkdir(parents=True, exist_ok=True)
    return created


def remove_empty(folders: list[Path]) -> None:
    """Remove empty folders of a chain in which each is inside the one before."""
    for folder in reversed(folders):
        with suppress(OSError):  # not empty, or removed already
            folder.rmdir()
