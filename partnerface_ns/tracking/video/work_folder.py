"""The hidden folder that stores the results of stages, so that an interrupted run can be resumed.

The result of a stage appears only when it is complete. The folder records the video and the options that it belongs to.
It is emptied if either differs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from partnerface_ns.common.atomic import write_text
from partnerface_ns.common.locks import LOCK_NAME
from partnerface_ns.common.npz_file import read_npz, write_npz
from partnerface_ns.tracking.video.decode.image_folder import list_images

_FORMAT = 4
"""Incremented when stages change what they store."""
_MAX_BYTES = 4 << 30


class WorkFolder:
    """Results of stages by name."""

    def __init__(self, root: Path, video: Path, options: Mapping[str, object]) -> None:
        """
        Args:
            root: the folder; created if missing, emptied if it belongs to another video or other options.
            video: the file or image folder.
            options: everything that affects the results.
        """
        self.root = Path(root)
        identity = {"format": _FORMAT, "video": video_digest(Path(video))}
        source = json.dumps(identity | {key: str(value) for key, value in options.items()}, indent=1)
        source_file = self.root / "source.json"
        if not source_file.is_file() or source_file.read_text(encoding="utf8") != source:
            self.root.mkdir(parents=True, exist_ok=True)
            self._empty()
            write_text(source_file, source)

    def folder(self, name: str) -> Path:
        """Return a subfolder, created if missing."""
        path = self.root / name
        path.mkdir(exist_ok=True)
        return path

    def stage(self, name: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the arrays of a stage: stored by an earlier run, or computed now."""
        path = self.root / f"{name}.npz"
        if not path.is_file():
            write_npz(path, compute())
        return read_npz(path, max_bytes=_MAX_BYTES)

    def _empty(self) -> None:
        for path in self.root.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK_NAME:
                path.unlink()

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.root, ignore_errors=True)


def video_digest(video: Path) -> str:
    """A digest of the file names, sizes and times of a video or an image folder."""
    files = list_images(video) if video.is_dir() else [video]
    stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(repr(stats).encode()).hexdigest()
