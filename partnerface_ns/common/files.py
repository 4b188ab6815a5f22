"""Checks of paths and files that a user gives, before anything reads or writes them.

Every refusal is an `InputError` that names the file, the key, the expected and the found value.
"""

from __future__ import annotations

import errno
import os
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from partnerface_ns.common.errors import InputError, shorten


def natural_key(name: str) -> tuple[tuple[str | int, ...], str]:
    """Sort key that orders numbers inside names by value: `2.png` comes before `10.png`, with or without padding.

    The first item is equal for names that differ only in case or in the padding of their numbers.
    """
    parts = re.split(r"([0-9]+)", name.casefold())  # text and digits alternate, text comes first
    return tuple(int(part) if index % 2 else part for index, part in enumerate(parts)), name


def list_files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """Files of a folder with one of the suffixes, in natural order, without hidden files.

    Hidden files are left out because operating systems add their own: macOS writes `._NAME` beside every file on a
    foreign disk.

    Args:
        folder: the folder; its subfolders are not searched.
        suffixes: lower case with the dot, such as `.png`. The suffix of a file may have any case.
    """
    wanted = tuple(suffixes)
    paths = (path for path in folder.iterdir() if not path.name.startswith(".") and path.suffix.lower() in wanted)
    return sorted((path for path in paths if not path.is_dir()), key=lambda path: natural_key(path.name))


def path_inside(boundary: Path, base: Path, name: object, source: Path, key: str | None = None) -> Path:
    """The absolute path of `name` relative to `base`, with symbolic links resolved.

    Args:
        boundary: the path must stay inside this folder. Its own links must be resolved already.
        base: the folder that `name` is relative to.
        name: the value in the user's file.
        source: the user's file, for error messages.
        key: the key of `name` in that file, for error messages.

    Raises:
        InputError: `name` is not a path, is absolute, or leads outside the boundary.
    """
    if not isinstance(name, str) or not name or len(name) > 4096 or "\0" in name:
        raise InputError(source, "not a path", key=key, expected="a relative path", actual=shorten(name))
    name = name.replace("\\", "/")
    try:
        real = (base / name).resolve()
        inside = not name.startswith("/") and real.is_relative_to(boundary)
    except (OSError, RuntimeError, ValueError) as error:  # circular links, or a name that the system does not allow
        raise InputError(source, "the path leads nowhere", key=key, actual=shorten(name)) from error
    if not inside:
        raise InputError(
            source, "the path leads outside the capture folder", key=key, expected=f"inside {boundary}", actual=name
        )
    return real


def require_file(path: Path, source: Path | None = None, key: str | None = None, max_bytes: int | None = None) -> int:
    """Check that a regular, readable, non-empty file exists and return its size in bytes.

    Args:
        path: the file.
        source: the user's file that names it, for error messages.
        key: the key in `source`, for error messages.
        max_bytes: largest allowed size.

    Raises:
        InputError: no regular file (a folder, pipe or device is none), not readable, empty, or too large.
    """
    try:
        regular, size = path.is_file(), os.stat(path).st_size
    except (OSError, ValueError):
        regular, size = False, 0
    if not regular:
        raise InputError(source or path, "the file does not exist", key=key, expected=path if source else None)
    if not os.access(path, os.R_OK):
        raise InputError(path, "no permission to read the file")
    if size == 0:
        raise InputError(path, "the file is empty")
    if max_bytes is not None and size > max_bytes:
        raise InputError(path, "the file is too large", expected=f"at most {max_bytes} bytes", actual=size)
    return size


def require_whole(path: Path) -> None:
    """Check the checksums of a file that `torch.save` wrote. `torch.load` reads damaged numbers without an error.

    Raises:
        InputError: missing, truncated or damaged.
    """
    require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # a broken file can make the parser raise anything
        raise InputError(path, "is damaged or incomplete", actual=shorten(error)) from error
    if damaged is not None:
        raise InputError(path, "is damaged or incomplete", actual=f"a wrong checksum of {damaged}")


def require_writable(path: Path, hint: str = "choose another place") -> None:
    """Check that a file or folder can be created at a path. Call it before long work starts.

    Raises:
        InputError: the parent is not a folder or is not writable. `hint` is part of the message.
    """
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if path.is_dir():
        above = path
    if not above.is_dir():
        raise InputError(path, "cannot be written", expected="a place in a folder", actual=f"{above} is a file")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(path, "cannot be written", actual=f"{above} is not writable", hint=hint)


def require_writable_file(path: Path) -> None:
    """Check that a file can be created or replaced at a path. Call it before long work starts.

    Raises:
        InputError: a folder has this name, or the parent is not writable.
    """
    if path.is_dir():
        raise InputError(path, "cannot be written", expected="a file's name", actual="a folder")
    require_writable(path)


def write_failure(path: Path, error: OSError, hint: str | None = None) -> InputError:
    """The `InputError` to raise after a failed write.

    Args:
        path: the file or folder that was being written.
        error: the exception of the operating system.
        hint: further advice for the user.
    """
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    place = f" ({error.filename})" if error.filename is not None and str(error.filename) != str(path) else ""
    advice = "make room or choose another place" if full else "choose another place"
    hint = advice if hint is None else f"{advice}; {hint}"
    return InputError(path, "cannot be written", actual=f"{error.strerror or error}{place}", hint=hint)
