"""Writing a folder so that it appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from partnerface_ns.errors import SubjectError


@contextmanager
def new_folder(root: Path) -> Iterator[Path]:
    """A hidden folder beside `root` to write into; it becomes `root` at the end, or is removed after an error.

    Raises:
        SubjectError: something is at `root` already.
    """
    root = Path(root)
    require_new(root)
    partial = root.with_name(f".{root.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        os.replace(partial, root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def require_new(root: Path) -> None:
    """Check that a folder can be made here, before the work for it begins.

    Raises:
        SubjectError: something is there already.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise SubjectError(root, "there is something here already", expected="a new or empty folder")
