"""Command lines to copy: what a user may run next."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def command(name: str, *arguments: object) -> str:
    """A command line: its program found as the user would find it, its arguments quoted."""
    program = name if shutil.which(name) else str(Path(sys.executable).with_name(name))
    return shlex.join([program, *(str(argument) for argument in arguments)])


def to_train(folder: Path, *options: object) -> str:
    """To train on a capture; options are the dataparser's."""
    training = ("ns-train", "partnerface-lite", "--max-train-minutes", 10, "flame-data", "--data", folder)
    return command(*training, *options)


def after_training(run: Path) -> list[str]:
    """To look at a trained run, measure it, and drive it."""
    config = run / "config.yml"
    return [
        command("ns-viewer", "--load-config", config),
        command("ns-eval", "--load-config", config, "--output-path", run / "eval.json"),
        command("partnerface", "report", run),
        command("partnerface", "drive", run, "--performance", "talk", "--output", run / "talk.mp4"),
    ]
