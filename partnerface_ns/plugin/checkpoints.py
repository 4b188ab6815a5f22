"""A run's checkpoints: written whole, and found whole.

A checkpoint appears under its name only when all of it is on disk, so a stopped or killed run keeps the one before.
Damaged files are passed over with a line that names them; what is no checkpoint by its name is not looked at.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from partnerface_ns.common.atomic import sync
from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import require_whole

_NAME = re.compile(r"step-(\d{9,})\.ckpt")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read."""

    path: Path
    step: int
    """The last step that was trained."""
    content: dict[str, Any]
    """`pipeline` holds the weights."""

    @property
    def load_step(self) -> int:
        """The step in the file's name, by which nerfstudio finds it; a file may have been renamed."""
        return int(self.path.stem.removeprefix("step-"))

    @property
    def trained_minutes(self) -> float:
        """Minutes of training steps."""
        seconds = [value for name, value in self.content["pipeline"].items() if name.endswith("_model.trained_seconds")]
        return float(seconds[0]) / 60 if seconds else 0.0


def newest_checkpoint(folder: Path) -> Checkpoint:
    """Read the newest whole checkpoint of a folder; a line names newer ones that are damaged.

    Raises:
        InputError: there is no folder, or no whole checkpoint in it.
    """
    paths = checkpoints_in(folder)
    damaged: list[InputError] = []
    for path in reversed(paths):
        try:
            checkpoint = read_checkpoint(path)
        except InputError as error:
            damaged.append(error)
            continue
        if damaged:
            names = ", ".join(Path(error.source).name for error in damaged)
            print(f"{folder}: damaged and left out: {names}; {path.name} is used.")
        return checkpoint
    raise InputError(
        folder,
        "there is no whole checkpoint",
        expected="step-000000000.ckpt, as training writes it",
        found=f"{len(damaged)} damaged: {damaged[0].problem}" if damaged else "none",
    )


def checkpoints_in(folder: Path) -> list[Path]:
    """All files that are checkpoints by their names, oldest first."""
    names = os.listdir(folder) if folder.is_dir() else []
    steps = sorted((int(match[1]), match[0]) for match in map(_NAME.fullmatch, names) if match)
    return [folder / name for _, name in steps]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint's plain data, after a check of every byte's sum.

    Raises:
        InputError: missing, damaged, or no checkpoint.
    """
    require_whole(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(path, int(content["step"]), {"pipeline": dict(content["pipeline"])} | content)
    except Exception as error:  # torch refuses what is not plain data
        raise InputError(path, "not a checkpoint of a run", found=shorten(repr(error))) from error


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A folder to write checkpoints to: they go to `folder` when they are written and on disk.

    Raises:
        InputError: they cannot be written; `folder` is as it was.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        for path in sorted(partial.iterdir()):
            sync(path)
            os.replace(path, folder / path.name)
        sync(folder)
    except (OSError, RuntimeError) as error:  # torch's writer raises the latter
        hint = "make room, then train on with --load-dir; the checkpoint before is whole"
        raise InputError(folder, "the checkpoint cannot be written", found=shorten(error), hint=hint) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
