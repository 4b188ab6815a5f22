"""Opening a run's avatar, and what moves it, for commands that need no nerfstudio."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from partnerface_ns.common.errors import InputError

if TYPE_CHECKING:
    from partnerface_ns.avatar.avatar import Avatar
    from partnerface_ns.avatar.file_format import AvatarInfo
    from partnerface_ns.driving.motion import Motion
    from partnerface_ns.driving.performances import PerformanceName
    from partnerface_ns.driving.player import Player
    from partnerface_ns.flame.head_model import HeadModel

_KEPT_KERNELS = "64"
"""Kernels that the CPU's matrix library keeps: every image has other shapes, and a thousand that it keeps by itself,
none of them asked for again, take hundreds of megabytes."""


def open_player(run: Path, head_model: Path | None = None, device: str = "auto", fast: bool = False) -> Player:
    """The avatar of a run folder, of the `config.yml` in one, or of an avatar file.

    Args:
        run: where.
        head_model: the head model's file, where it is no longer where training found it.
        device: auto, or as torch names it.
        fast: many times as fast, nearly the same images.

    Raises:
        InputError: there is no avatar, or no such device.
    """
    from partnerface_ns.driving.player import Player, load

    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _KEPT_KERNELS)
    device = usable_device(device)
    run = run.parent if run.name == "config.yml" else run
    if not (run / "config.yml").is_file() or _has_avatar(run):
        return load(run, head_model, device, fast)
    avatar, info = _avatar_of_checkpoint(run, head_model)
    return Player(avatar.to(device), info, fast)


def usable_device(device: str) -> str:
    """The device that an option names: auto takes the GPU where there is one.

    Raises:
        InputError: there is no such device.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    expected = "auto, cpu, cuda or cuda:N"
    if device != "cpu" and not device.startswith("cuda"):
        raise InputError("--device", "no such device", expected=expected, found=device)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError("--device", "cannot be used here", expected=expected, found=device) from error
    return device


def motion_for(
    source: Path | None,
    name: PerformanceName | None,
    model: HeadModel,
    fps: float | None,
    source_head_model: Path | None,
    beside: Path,
) -> Motion:
    """What a source or a built-in performance does.

    Args:
        source: a capture or take folder, a video, a recording, keyframes or head states.
        name: of a performance, in place of a source.
        model: the avatar's head model.
        fps: moments a second, and the rate of a source without a clock; None takes the source's own.
        source_head_model: a capture's head model file, where the capture does not hold it.
        beside: folder for the subject that a video is tracked into.

    Raises:
        InputError: neither or both are given, or the source cannot be used.
    """
    from partnerface_ns.driving.motion import load_motion, performance
    from partnerface_ns.driving.takes import VIDEO_SUFFIXES
    from partnerface_ns.driving.video import motion_of_video

    if (source is None) == (name is None):
        raise InputError("motion", "needs one source", expected="SOURCE, or --performance talk")
    if fps is not None and not 0 < fps <= 1000:
        raise InputError("--fps", "out of range", expected="above 0, at most 1000", found=fps)
    if name is not None:
        return performance(name, model, fps)
    assert source is not None
    if source.suffix.lower() in VIDEO_SUFFIXES and not source.is_dir():
        return motion_of_video(source, beside, model, fps)
    return load_motion(source, model, fps, source_head_model)


def _has_avatar(run: Path) -> bool:
    """Whether a run's avatar file is there and whole; else it is to be written again, and a line says why."""
    from partnerface_ns.avatar.file_format import AVATAR_NAME
    from partnerface_ns.common.files import require_whole

    path = run / AVATAR_NAME
    if path.is_dir():
        raise InputError(path, "is a folder", expected="an avatar file", hint="move it away: the file is made anew")
    if not path.exists():
        print(f"{path} is not there: the avatar is taken from the checkpoint.")
        return False
    try:
        require_whole(path)
    except InputError:
        print(f"{path} is damaged: the avatar is taken from the checkpoint.")
        return False
    return True


def _avatar_of_checkpoint(run: Path, head_model: Path | None) -> tuple[Avatar, AvatarInfo]:
    """The avatar of a run's newest checkpoint; its file is written where that can be done."""
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
        print(f"{run / AVATAR_NAME}: not written ({error.strerror}).")
    return pipeline.model.avatar, info
