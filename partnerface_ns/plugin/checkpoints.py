"""A run's checkpoints, written and read completely or not at all.

A checkpoint gets its name only when all of it is on disk and its checksums were read back. A stopped or killed run
therefore keeps its previous checkpoint. Damaged and foreign checkpoints are skipped, and a printed line names them.
Files with other names are ignored.
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
_TRAINED_SECONDS = f"{_MODEL}trained_seconds"
"""A tensor that only checkpoints of this method contain."""


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
        return float(self.content["pipeline"][_TRAINED_SECONDS]) / 60


def find_newest_checkpoint(folder: Path) -> Checkpoint:
    """Read the newest complete checkpoint of a folder. A printed line names newer ones that cannot be used.

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
            print(f"{folder}: damaged or foreign, and skipped: {names}. {path.name} is used.")
        return checkpoint
    raise InputError(
        folder,
        "there is no complete checkpoint",
        expected="step-000000000.ckpt, as training writes it",
        actual=f"{len(damaged)} damaged: {damaged[0].problem}" if damaged else "none",
    )


def find_newest_weights(folder: Path, avatar: Path) -> Checkpoint:
    """Read the newest complete checkpoint of a folder, or an avatar file if there is none.

    Raises:
        InputError: there is neither a complete checkpoint nor a complete avatar file.
    """
    try:
        return find_newest_checkpoint(folder)
    except InputError as error:
        try:
            checkpoint = read_avatar_as_checkpoint(avatar)
        except InputError:
            raise error from None
        print(f"{error.source}: {error.problem}. {avatar} is used, which has the weights of the newest checkpoint.")
        return checkpoint


def find_checkpoint(folder: Path, step: int | None) -> Checkpoint:
    """Read the checkpoint of a step, or the newest complete one of a folder.

    Args:
        folder: a run's checkpoints.
        step: the step in the file's name; None for the newest.

    Raises:
        InputError: it is missing, damaged or foreign; or no checkpoint of the folder is complete.
    """
    return find_newest_checkpoint(folder) if step is None else read_checkpoint(folder / checkpoint_name(step))


def checkpoint_name(step: int) -> str:
    """File name of the checkpoint after a step."""
    return f"step-{step:09d}.ckpt"


def delete_other_checkpoints(folder: Path, step: int) -> None:
    """Delete all checkpoints of a folder except that of a step."""
    for path in set(list_checkpoints(folder)) - {folder / checkpoint_name(step)}:
        path.unlink()


def list_checkpoints(folder: Path) -> list[Path]:
    """All files with the name of a checkpoint, oldest first."""
    names = os.listdir(folder) if folder.is_dir() else []
    steps = sorted((int(match[1]), match[0]) for match in map(_NAME.fullmatch, names) if match)
    return [folder / name for _, name in steps]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint's plain data after a check of all checksums.

    Raises:
        InputError: missing, damaged, or not a checkpoint of this method.
    """
    require_whole(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint = Checkpoint(path, int(content["step"]), {"pipeline": dict(content["pipeline"])} | content)
        foreign = _TRAINED_SECONDS not in checkpoint.content["pipeline"]
    except Exception as error:  # torch refuses everything but plain data
        raise InputError(path, "not a checkpoint of a run", actual=shorten(repr(error))) from error
    if foreign:
        raise InputError(path, "a checkpoint of another method", expected=f"the tensor {_TRAINED_SECONDS}")
    return checkpoint


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
    weights[_TRAINED_SECONDS] = torch.tensor(0.0)
    weights[f"{_MODEL}progress"] = torch.tensor(0.0, dtype=torch.float64)
    weights[f"{_MODEL}capture_digest"] = torch.zeros(8, dtype=torch.uint8)
    return Checkpoint(path, max(0, int(state["step"]) - 1), {"pipeline": weights})


def require_budget_left(checkpoint: Checkpoint, max_steps: int, max_minutes: float | None) -> None:
    """Check that a run that continues from a checkpoint has something left to train.

    Raises:
        InputError: the checkpoint has reached a limit.
    """
    steps, minutes = checkpoint.step + 1, checkpoint.trained_minutes
    if steps < max_steps and (max_minutes is None or minutes < max_minutes):
        return
    limits = f"--max-num-iterations {max_steps}"
    if max_minutes is not None:
        limits += f" --max-train-minutes {max_minutes:g}"
    raise InputError(
        checkpoint.path,
        "nothing is left to train",
        expected=f"more than was trained, not {limits}",
        actual=f"{steps} steps, {minutes:.2f} minutes trained",
        hint="both count from the start of the run; raise the limit that is reached",
    )


@contextmanager
def write_complete_checkpoints(folder: Path) -> Iterator[Path]:
    """A temporary folder to write checkpoints to. They move to `folder` when they are on disk and proved complete.

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
            require_whole(path)
            os.replace(path, folder / path.name)
        sync(folder)
    except (OSError, RuntimeError) as error:  # torch's writer raises the latter
        hint = "free some space, then resume with --load-dir; the previous checkpoint is complete"
        free = shutil.disk_usage(partial.parent).free >> 20  # torch's writer does not tell that the disk is full
        actual = f"{shorten(error)}; {free} MiB are free"
        raise InputError(folder, "the checkpoint cannot be written", actual=actual, hint=hint) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
