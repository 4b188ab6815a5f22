"""Opening a run's avatar for commands that need no nerfstudio."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from partnerface_ns.errors import SubjectError

if TYPE_CHECKING:
    from partnerface_ns.driving.player import Player


def open_player(run: Path, head_model: Path | None = None, device: str = "auto") -> Player:
    """The avatar of a run folder, of the `config.yml` in one, or of an avatar file.

    Args:
        run: where.
        head_model: the head model's file, where it is no longer where training found it.
        device: auto, or as torch names it.

    Raises:
        SubjectError: there is no avatar, or no such device.
    """
    import torch

    from partnerface_ns.avatar_file import AVATAR_NAME
    from partnerface_ns.driving.player import load

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        expected = "auto, cpu, cuda or cuda:N"
        raise SubjectError("--device", "cannot be used here", expected=expected, found=device) from error
    run = run.parent if run.name == "config.yml" else run
    if (run / "config.yml").is_file() and not (run / AVATAR_NAME).is_file():
        _write_avatar_of(run)
    return load(run, head_model, device)


def _write_avatar_of(folder: Path) -> None:
    """Write the avatar file of a run that was trained before such files were written."""
    from partnerface_ns.avatar_file import AVATAR_NAME, AvatarInfo, save_avatar
    from partnerface_ns.cli.runs import open_run
    from partnerface_ns.plugin.dataparser import head_model_source

    pipeline = open_run(folder).pipeline
    recording = pipeline.datamanager.eval_dataset.recording
    source = head_model_source(recording.capture, pipeline.datamanager.dataparser.config.head_model)
    info = AvatarInfo.of(recording.capture, recording.head_model, source)
    save_avatar(folder / AVATAR_NAME, pipeline.model.avatar, info)
