"""Writing a folder so that it appears whole or not at all.

Unfinished work lies in a hidden folder on the file system that the result goes to: beside a new folder, inside one
that exists. So a mount point, the folder that a user stands in, and a link to a folder can be written to.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import require_writable, write_failure

_OF_THE_SYSTEM = ("lost+found", "System Volume Information")
"""Folders that file systems have at their root."""


@contextmanager
def new_folder(root: Path) -> Iterator[Path]:
    """A hidden folder to write into; its content becomes `root` at the end, or is removed after an error.

    Raises:
        InputError: something is at `root` already, or it cannot be written.
    """
    require_new(root)
    partial = unfinished_folder(root, f"{os.getpid()}.partial")
    try:
        made = make_folder(partial)
        try:
            yield partial
            publish(partial, root)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            remove_empty(made)
    except OSError as error:
        raise write_failure(root, error) from error


def require_new(root: Path) -> None:
    """Check that a folder can be made here, before the work for it begins. Hidden files in it do not count.

    Raises:
        InputError: something is there already, or it cannot be written.
    """
    if root.exists() and (not root.is_dir() or not is_free(root)):
        raise InputError(root, "there is something here already", expected="a new or empty folder")
    require_writable(root.resolve())


def is_free(folder: Path) -> bool:
    """Whether a folder holds nothing but hidden files and what the file system keeps in it."""
    return all(path.name.startswith(".") or path.name in _OF_THE_SYSTEM for path in folder.iterdir())


def unfinished_folder(root: Path, name: str) -> Path:
    """Where unfinished work on `root` lies; the folder is not made."""
    root = root.resolve()
    return root / f".{name}" if root.is_dir() else root.with_name(f".{root.name}.{name}")


def publish(finished: Path, root: Path) -> None:
    """Move a finished folder, or its content if `root` exists, to `root`; both are on one file system."""
    root = root.resolve()
    if not root.exists():
        os.replace(finished, root)
        return
    moved: list[Path] = []
    try:
        for path in sorted(finished.iterdir(), key=lambda path: (path.is_file(), path.name)):
            os.rename(path, root / path.name)  # files last: they name what is in the folders
            moved.append(path)
    except OSError:
        for path in moved:
            os.rename(root / path.name, path)
        raise


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it; gives those that were made, outermost first."""
    made = [path for path in (folder, *folder.parents) if not path.exists()][::-1]
    folder.mkdir(parents=True, exist_ok=True)
    return made


def remove_empty(folders: list[Path]) -> None:
    """Remove those of some folders, each inside the one before, that hold nothing."""
    for folder in reversed(folders):
        with suppress(OSError):  # it holds something, or is gone already
            folder.rmdir()
