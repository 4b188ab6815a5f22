"""A run's checkpoints, written and read completely or not at all.

A checkpoint gets its name only when all of it is on disk, so a stopped or killed run keeps its previous checkpoint.
Damaged checkpoints are skipped, and a printed line names them. Files with other names are ignored.
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

from partnerface_ns.avatar.file_format import read_avatar_state
from partnerface_ns.common.atomic import sync
from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import require_whole

_NAME = re.compile(r"step-(\d{9,})\.ckpt")
_MODEL = "_model."
"""Prefix of the model's tensors in nerfstudio's pipeline."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint, or the weights of an avatar file in the same form."""

    path: Path
    step: int
    """The last step that was trained."""
    content: dict[str, Any]
    """nerfstudio's checkpoint; the entry `pipeline` holds the weights."""

    @property
    def load_step(self) -> int:
        """The step by which nerfstudio finds a checkpoint. It is in the file's name, and a file may be renamed."""
        match = _NAME.fullmatch(self.path.name)
        return int(match[1]) if match else self.step

    @property
    def trained_minutes(self) -> float:
        """Minutes of training steps."""
        # A run on several GPUs puts another prefix in front.
        weights = self.content["pipeline"].items()
        return sum(float(value) / 60 for name, value in weights if name.endswith(f"{_MODEL}trained_seconds"))


def find_newest_checkpoint(folder: Path) -> Checkpoint:
    """Read the newest complete checkpoint of a folder. A printed line names newer ones that are damaged.

    Raises:
        InputError: there is no folder, or no complete checkpoint in it.
    """
    damaged: list[InputError] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            checkpoint = read_checkpoint(path)
        except InputError as error:
            damaged.append(error)
            continue
        if damaged:
            names = ", ".join(Path(error.source).name for error in damaged)
            print(f"{folder}: damaged and skipped: {names}. {path.name} is used.")
        return checkpoint
    raise InputError(
        folder,
        "there is no complete checkpoint",
        expected="step-000000000.ckpt, as training writes it",
        actual=f"{len(damaged)} damaged: {damaged[0].problem}" if damaged else "none",
    )


def list_checkpoints(folder: Path) -> list[Path]:
    """All files with the name of a checkpoint, oldest first."""
    names = os.listdir(folder) if folder.is_dir() else []
    steps = sorted((int(match[1]), match[0]) for match in map(_NAME.fullmatch, names) if match)
    return [folder / name for _, name in steps]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint's plain data after a check of all checksums.

    Raises:
        InputError: missing, damaged, or not a checkpoint.
    """
    require_whole(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(path, int(content["step"]), {"pipeline": dict(content["pipeline"])} | content)
    except Exception as error:  # torch refuses everything but plain data
        raise InputError(path, "not a checkpoint of a run", actual=shorten(repr(error))) from error


def read_avatar_as_checkpoint(path: Path) -> Checkpoint:
    """Read an avatar file as a checkpoint that can be shown but not trained on.

    An avatar file does not identify its training capture. The digest is therefore zero, which fits no capture: all
    frames are rendered as test frames are, without residuals learned for single training frames.

    Raises:
        InputError: missing, damaged, or not an avatar file.
    """
    state = read_avatar_state(path)
    weights = {f"{_MODEL}avatar.{name}": value for name, value in state.items()}
    weights[f"{_MODEL}device_indicator_param"] = torch.empty(0)  # nerfstudio's own
    weights[f"{_MODEL}trained_seconds"] = torch.tensor(0.0)
    weights[f"{_MODEL}capture_digest"] = torch.zeros(8, dtype=torch.uint8)
    return Checkpoint(path, max(0, int(state["step"]) - 1), {"pipeline": weights})


@contextmanager
def write_complete_checkpoints(folder: Path) -> Iterator[Path]:
    """A temporary folder to write checkpoints to. They move to `folder` when they are on disk.

    Raises:
        InputError: they cannot be written. `folder` is unchanged.
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
        hint = "free some space, then resume with --load-dir; the previous checkpoint is complete"
        raise InputError(folder, "the checkpoint cannot be written", actual=shorten(error), hint=hint) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
