"""One process at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from partnerface_ns.common.errors import InputError

LOCK_NAME = ".lock"


@contextmanager
def lock_folder(folder: Path, output: Path | None = None) -> Iterator[None]:
    """Keep other processes that ask for the same folder out of it; a process that dies lets go of it.

    Args:
        folder: an existing folder; the lock is a hidden file in it.
        output: what is written, for the message, if it is not the folder.

    Raises:
        InputError: another process is in it, or its file system knows no locks.
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
        raise InputError(lock.lock_file, "cannot be locked", found=error, hint="choose another place") from error
    try:
        yield
    finally:
        lock.release()
