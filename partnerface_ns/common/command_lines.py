"""Command lines to copy: what a user may run next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def command(name: str, *arguments: object) -> str:
    """A command line: its program by name where that is found to be this environment's, its arguments quoted."""
    own, found = Path(sys.executable).with_name(name), shutil.which(name)
    is_own = found is not None and (not own.exists() or os.path.samefile(found, own))
    return shlex.join([name if is_own else str(own), *(str(argument) for argument in arguments)])


def to_train(folder: Path, head_model: Path | None = None, layout: str | None = None) -> str:
    """To train on a capture; options as they were given to whatever read it before."""
    training: list[object] = ["partnerface-lite", "--data", folder, "--max-train-minutes", 10]
    training += [] if head_model is None else ["--head-model", head_model]
    training += [] if layout is None else ["flame-data", "--format", layout]
    return command("ns-train", *training)


def after_training(run: Path) -> list[str]:
    """To look at a trained run, measure it, and drive it."""
    config = run / "config.yml"
    return [
        command("ns-viewer", "--load-config", config),
        command("ns-eval", "--load-config", config, "--output-path", run / "eval.json"),
        command("partnerface", "report", run),
        command("partnerface", "drive", run, "--motion", "talk", "--output", run / "talk.mp4"),
    ]
