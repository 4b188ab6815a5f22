"""The hidden folder in which stages leave what they made, so that an interrupted run goes on.

A stage's result appears under its name only when it is whole. The folder remembers what it was made from; with
another video or other options it starts anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from partnerface_ns.common.atomic import write_text
from partnerface_ns.common.locks import LOCK_NAME
from partnerface_ns.common.npz_file import read_npz, write_npz
from partnerface_ns.tracking.image_folder import images_of

_FORMAT = 2
"""Grows when stages change what they leave."""
_MAX_BYTES = 4 << 30


class WorkFolder:
    """Stages' results by name."""

    def __init__(self, root: Path, video: Path, options: dict[str, object]) -> None:
        """
        Args:
            root: the folder; made if it is not there, emptied if it was made from something else.
            video: what is tracked.
            options: all that changes what the stages make.
        """
        self.root = Path(root)
        source = _identify(Path(video), options)
        note = self.root / "source.json"
        if not note.is_file() or note.read_text(encoding="utf8") != source:
            self.root.mkdir(parents=True, exist_ok=True)
            self._empty()
            write_text(note, source)

    def folder(self, name: str) -> Path:
        path = self.root / name
        path.mkdir(exist_ok=True)
        return path

    def stage(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays of a stage, from an earlier run if it got that far."""
        path = self.root / f"{name}.npz"
        if not path.is_file():
            write_npz(path, make())
        return read_npz(path, max_bytes=_MAX_BYTES)

    def _empty(self) -> None:
        for path in self.root.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK_NAME:
                path.unlink()

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def _identify(video: Path, options: dict[str, object]) -> str:
    files = images_of(video) if video.is_dir() else [video]
    stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    digest = hashlib.sha256(repr(stats).encode()).hexdigest()
    options = {key: str(value) for key, value in options.items()}
    return json.dumps({"format": _FORMAT, "video": digest, **options}, indent=1)
