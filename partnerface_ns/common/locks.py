"""A lock that lets one process at a time write to a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from partnerface_ns.common.errors import InputError

LOCK_NAME = ".lock"


@contextmanager
def lock_folder(folder: Path, output: Path | None = None) -> Iterator[None]:
    """Hold the lock of a folder. The operating system releases it when the process ends.

    Args:
        folder: an existing folder; the lock is a hidden file in it.
        output: the path to name in the message, if it is not the folder.

    Raises:
        InputError: another process holds the lock, or the file system has no locks.
    """
    from filelock import FileLock, Timeout

    output = folder if output is None else output
    lock = FileLock(folder / LOCK_NAME, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            output, "another command is writing here", hint="wait for it, or choose another place"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise InputError(lock.lock_file, "cannot be locked", actual=error, hint="choose another place") from error
    try:
        yield
    finally:
        lock.release()
