"""Command lines for a user to copy: what to run next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def command(name: str, *arguments: object) -> str:
    """A command line with quoted arguments. The program has its full path unless the shell finds the same program."""
    own, on_path = Path(sys.executable).with_name(name), shutil.which(name)
    is_own = on_path is not None and (not own.exists() or os.path.samefile(on_path, own))
    return shlex.join([name if is_own else str(own), *(str(argument) for argument in arguments)])


def train_command(folder: Path, head_model: Path | None = None, layout: str | None = None) -> str:
    """The command that trains on a capture, with the same options as the command that read it."""
    training: list[object] = ["partnerface-lite", "--data", folder, "--max-train-minutes", 10]
    training += [] if head_model is None else ["--head-model", head_model]
    training += [] if layout is None else ["flame-data", "--format", layout]
    return command("ns-train", *training)


def commands_after_training(run: Path) -> list[str]:
    """Commands that show, evaluate and drive a trained run."""
    config = run / "config.yml"
    return [
        command("ns-viewer", "--load-config", config),
        command("ns-eval", "--load-config", config, "--output-path", run / "eval.json"),
        command("partnerface", "report", run),
        command("partnerface", "drive", run, "--motion", "talk", "--output", run / "talk.mp4"),
    ]
