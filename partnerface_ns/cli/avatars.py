"""Opening a run's avatar and reading a motion, for commands that run without nerfstudio."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from partnerface_ns.common.errors import InputError

if TYPE_CHECKING:
    from partnerface_ns.avatar.avatar import Avatar
    from partnerface_ns.avatar.file_format import AvatarInfo
    from partnerface_ns.driving.builtin_motions import BuiltinMotionName
    from partnerface_ns.driving.motion import Motion
    from partnerface_ns.driving.player import Player
    from partnerface_ns.flame.head_model import HeadModel

_KERNEL_CACHE_SIZE = "64"
"""Kernels that oneDNN caches for bfloat16. Every image has new shapes, so its default of 1024 takes hundreds of
megabytes unused."""


def open_player(run: Path, head_model: Path | None = None, device: str = "auto", fast: bool = False) -> Player:
    """Open the avatar of a run folder, of the `config.yml` in one, or of an avatar file.

    Args:
        run: the folder or file.
        head_model: the head model's file, if it was moved since training.
        device: auto, cpu, cuda or cuda:N.
        fast: whether to render the baked avatar, which is faster and slightly less accurate (docs/benchmarks.md).

    Raises:
        InputError: there is no avatar, or no such device.
    """
    from partnerface_ns.driving.player import Player, load

    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _KERNEL_CACHE_SIZE)
    device = usable_device(device)
    run = run.parent if run.name == "config.yml" else run
    if not (run / "config.yml").is_file() or _has_avatar(run):
        return load(run, head_model, device, fast)
    avatar, info = _avatar_of_checkpoint(run, head_model)
    return Player(avatar.to(device), info, fast)


def usable_device(device: str) -> str:
    """The device that an option names. auto is the GPU if there is one, else the CPU.

    Raises:
        InputError: there is no such device.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    expected = "auto, cpu, cuda or cuda:N"
    if device != "cpu" and not device.startswith("cuda"):
        raise InputError("--device", "no such device", expected=expected, actual=device)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError("--device", "cannot be used here", expected=expected, actual=device) from error
    return device


def check_source(
    source: Path | None, name: BuiltinMotionName | None, fps: float | None, source_head_model: Path | None
) -> None:
    """Check the options of `read_motion`, before an avatar is opened.

    Raises:
        InputError: neither or both of source and name are given, or the source is no motion. Or the rate is out of
            range, or a built-in motion has a head model file.
    """
    from partnerface_ns.driving.load import require_source

    if (source is None) == (name is None):
        given = "neither" if source is None else "both"
        raise InputError("motion", "needs one source", expected="either SOURCE or --motion talk", actual=given)
    if fps is not None and not 0 < fps <= 1000:
        raise InputError("--fps", "out of range", expected="above 0, at most 1000", actual=fps)
    if name is not None and source_head_model is not None:
        expected = "no --source-head-model; built-in motions are made for the avatar's head model"
        raise InputError(
            "--source-head-model", "a built-in motion has no file", expected=expected, actual=source_head_model
        )
    if source is not None:
        require_source(source)


def read_motion(
    source: Path | None,
    name: BuiltinMotionName | None,
    model: HeadModel,
    fps: float | None,
    source_head_model: Path | None,
    parent: Path,
) -> Motion:
    """Read the motion of a source, or make a built-in one.

    Args:
        source: a capture or take folder, a video, or a motion file.
        name: a built-in motion, in place of a source.
        model: the avatar's head model.
        fps: frames per second, and the rate of a source without a clock; None takes the source's own.
        source_head_model: the head model file of a source that does not contain it.
        parent: the folder in which a video's capture is found or written.

    Raises:
        InputError: an option is wrong, as in `check_source`, or the source cannot be used.
    """
    from partnerface_ns.driving.load import load_motion
    from partnerface_ns.driving.motion import builtin_motion
    from partnerface_ns.driving.takes import VIDEO_SUFFIXES
    from partnerface_ns.driving.video import motion_of_video

    check_source(source, name, fps, source_head_model)
    if name is not None:
        return builtin_motion(name, model, fps)
    assert source is not None
    if source.suffix.lower() in VIDEO_SUFFIXES and not source.is_dir():
        return motion_of_video(source, parent, model, fps)
    return load_motion(source, model, fps, source_head_model)


def _has_avatar(run: Path) -> bool:
    """Whether a run's avatar file is there and complete; if not, a message says why it is written again.

    Raises:
        InputError: a folder is in its place.
    """
    from partnerface_ns.avatar.file_format import AVATAR_NAME
    from partnerface_ns.common.files import require_whole

    path = run / AVATAR_NAME
    if path.is_dir():
        hint = "move it away: the file is written again"
        raise InputError(path, "is a folder", expected="an avatar file", actual="a folder", hint=hint)
    if not path.exists():
        print(f"{path} does not exist: the avatar is taken from the checkpoint.")
        return False
    try:
        require_whole(path)
    except InputError:
        print(f"{path} is damaged: the avatar is taken from the checkpoint.")
        return False
    return True


def _avatar_of_checkpoint(run: Path, head_model: Path | None) -> tuple[Avatar, AvatarInfo]:
    """The avatar of a run's newest checkpoint. Its file is written if the folder is writable."""
    from partnerface_ns.avatar.file_format import AVATAR_NAME, AvatarInfo, save_avatar
    from partnerface_ns.cli.runs import open_run
    from partnerface_ns.plugin.dataparser import head_model_source

    pipeline = open_run(run, head_model=head_model).pipeline
    parsed = pipeline.datamanager.eval_dataset.parsed
    source = head_model_source(parsed.capture, pipeline.datamanager.dataparser.config.head_model)
    info = AvatarInfo.of(parsed.capture, parsed.head_model, source)
    try:
        save_avatar(run / AVATAR_NAME, pipeline.model.avatar, info)
    except OSError as error:
        print(f"{run / AVATAR_NAME} is not written: {error.strerror}.")
    return pipeline.model.avatar, info
