"""Avatar files: settings, weights and everything that is needed to show and drive an avatar without its capture.

The head model's arrays are not in the file. It names the head model, and loading with another one is refused. The file
is written by `torch.save` and read with `weights_only=True`. Its keys are `format`, `config` (nested dictionaries),
`state` (tensors) and `info`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.config import AvatarConfig
from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.capture.capture import Capture
from partnerface_ns.capture.head_models import load_named_head_model
from partnerface_ns.common.atomic import atomic_write
from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import require_file, require_whole
from partnerface_ns.common.settings import config_from_dict
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.neutral import measure_neutral
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera

AVATAR_NAME = "avatar.pt"
"""Name of the file in a run folder."""
_FORMAT = 1
_EDGE = 0.01
"""Share of training frames that is left out of a channel's range at each end."""


@dataclass(frozen=True)
class AvatarInfo:
    """Contents of an avatar file besides the avatar."""

    head_model: str
    """Path of the head model file, or the name of the built-in head."""
    camera: Camera
    """Camera of the first training frame."""
    neutral: HeadState
    """The person's measured neutral state, batch axes ()."""
    lowest: HeadState
    """Lower end of each channel's range in training, batch axes ()."""
    highest: HeadState
    """Upper end of each channel's range in training, batch axes ()."""

    @staticmethod
    def of(capture: Capture, model: HeadModel, source: Path | str) -> AvatarInfo:
        """Information that follows from the training capture.

        Args:
            capture: the training capture.
            model: its head model.
            source: path or name of the head model.
        """
        frames = capture.frames_of("train") or capture.frames
        seen = capture.states_of("train") if capture.splits["train"] else capture.track
        seen = replace(seen, torso=None)  # elsewhere the torso is predicted from the head's pose
        ends = [seen.map(lambda v, q=q: torch.quantile(v, q, dim=0)) for q in (_EDGE, 1 - _EDGE)]
        return AvatarInfo(str(source), frames[0].camera, measure_neutral(seen, model), *ends)


def save_avatar(path: Path, avatar: Avatar, info: AvatarInfo) -> None:
    """Write an avatar file atomically."""
    path = Path(path)
    states = {name: _state_to_dict(getattr(info, name)) for name in ("neutral", "lowest", "highest")}
    camera = asdict(info.camera) | {"T_world_camera": info.camera.T_world_camera.tolist()}
    content = {
        "format": _FORMAT,
        "config": asdict(avatar.config),
        "state": {name: value.detach().cpu() for name, value in avatar.state_dict().items()},
        "info": {"head_model": info.head_model, "camera": camera, **states},
    }
    with atomic_write(path, durable=True) as partial:
        torch.save(content, partial)


def load_avatar(path: Path, head_model: Path | None = None) -> tuple[Avatar, AvatarInfo]:
    """Read an avatar file. The avatar is on the CPU and in evaluation mode.

    Args:
        path: the avatar file.
        head_model: path of the head model's file, if it moved since training.

    Raises:
        InputError: not an avatar file, or its head model is missing or a different one.
    """
    path = Path(path)
    content = _read(path)
    try:
        info = _info(content["info"])
        state: dict[str, Tensor] = content["state"]
        config = config_from_dict(AvatarConfig(), content["config"], path)
    except InputError:
        raise
    except Exception as error:  # missing keys or values of other types
        raise InputError(path, "not an avatar file", actual=shorten(repr(error))) from error
    model = load_named_head_model(head_model or Path(info.head_model))
    check_same_head_model(path, state, model)
    return _build(path, config, state, model, info.neutral), info


def read_avatar_state(path: Path) -> dict[str, Tensor]:
    """Read the state dict of an avatar file, after a check of all checksums.

    Raises:
        InputError: missing, damaged, or not an avatar file.
    """
    require_whole(path)
    state = _read(path).get("state")
    if not isinstance(state, dict) or "step" not in state:
        raise InputError(path, "not an avatar file", key="state", expected="weights", actual=type(state).__name__)
    return state


def check_same_head_model(path: Path | str, state: Mapping[str, Tensor], model: HeadModel) -> None:
    """Check that a stored avatar was trained with this head model.

    Raises:
        InputError: the fingerprints differ.
    """
    stored = bytes(state["fingerprint"].tolist()).hex() if "fingerprint" in state else "none"
    if stored != model.fingerprint:
        raise InputError(
            path, "trained with another head model", expected=stored, actual=f"{model.name} ({model.fingerprint})"
        )


def _read(path: Path) -> dict[str, Any]:
    require_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for broken files and refused contents
        raise InputError(
            path,
            "not an avatar file, or a broken one",
            expected="a file that partnerface or ns-train wrote, of plain data alone",
            actual=shorten(error, 60),
            hint="the run or its avatar.pt comes first, the motion second",
        ) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        actual = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise InputError(path, "not an avatar file", key="format", expected=_FORMAT, actual=actual)
    return content


def _build(path: Path, config: AvatarConfig, state: dict[str, Tensor], model: HeadModel, neutral: HeadState) -> Avatar:
    try:
        red, green, blue = state["background"].tolist()
        init = AvatarInit(
            model=model,
            identity=state["identity"],
            static_offset=state["static_offset"],
            states=neutral.map(lambda value: value[None]),
            num_timesteps=1,
            background=(red, green, blue),
            reach=state.get("reach"),
        )
        avatar = Avatar(config, init)
        avatar.load_state_dict(state, strict=True)
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(path, "settings and weights do not match", actual=shorten(error)) from error
    return avatar.eval()


def _info(values: Mapping[str, Any]) -> AvatarInfo:
    camera = dict(values["camera"])
    T = np.array(camera.pop("T_world_camera"), dtype=np.float64)
    states = [HeadState(**values[name]) for name in ("neutral", "lowest", "highest")]
    return AvatarInfo(str(values["head_model"]), Camera(T, **camera), *states)


def _state_to_dict(state: HeadState) -> dict[str, Tensor]:
    return state.map(lambda value: value.detach().cpu().clone()).tensors()
