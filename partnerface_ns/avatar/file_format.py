"""An avatar as one file: settings, weights, and all it takes to show and drive it without its capture.

The head model's arrays are not in it: the file names the head model, and another one is refused. Layout, written by
`torch.save` and read with weights only: `format`, `config` (nested plain dictionaries), `state` (tensors), `info`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
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
"""The file's name in a run folder."""
_FORMAT = 1
_EDGE = 0.01
"""Share of training frames that lie beyond what counts as the range of a channel, on either side."""


@dataclass(frozen=True)
class AvatarInfo:
    """What an avatar brings along besides its networks."""

    head_model: str
    """A head model file, or the open head's name."""
    camera: Camera
    """The camera of the first training frame."""
    neutral: HeadState
    """The person's measured neutral state, batch axes ()."""
    lowest: HeadState
    """Lower end of what training saw of each channel, batch axes ()."""
    highest: HeadState
    """Upper end of the same."""

    @staticmethod
    def of(capture: Capture, model: HeadModel, source: Path | str) -> AvatarInfo:
        """What there is to know of a capture that an avatar is trained on; `source` names the head model."""
        frames = capture.frames_of("train") or capture.frames
        seen = capture.states_of("train") if capture.splits["train"] else capture.track
        ends = [_each(seen, lambda v, q=q: torch.quantile(v, q, dim=0)) for q in (_EDGE, 1 - _EDGE)]
        return AvatarInfo(str(source), frames[0].camera, measure_neutral(seen, model), *ends)


def save_avatar(path: Path, avatar: Avatar, info: AvatarInfo) -> None:
    """Write an avatar file (temporary name, then rename)."""
    path = Path(path)
    states = {name: _plain(getattr(info, name)) for name in ("neutral", "lowest", "highest")}
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
    """Read an avatar file; the avatar is on the CPU and in evaluation mode.

    Args:
        path: the file.
        head_model: the head model's file, where it is no longer where training found it.

    Raises:
        InputError: not an avatar file, or its head model is missing or another one.
    """
    path = Path(path)
    content = _read(path)
    try:
        info = _info(content["info"])
        state: dict[str, Tensor] = content["state"]
        config = config_from_dict(AvatarConfig(), content["config"], path)
    except InputError:
        raise
    except Exception as error:  # whatever is missing or of another kind, the file is not ours
        raise InputError(path, "not an avatar file", found=shorten(repr(error))) from error
    model = load_named_head_model(head_model or Path(info.head_model))
    check_same_head_model(path, state, model)
    return _assembled(path, config, state, model, info.neutral), info


def read_avatar_state(path: Path) -> dict[str, Tensor]:
    """Read the state dict of an avatar file, after a check of all checksums.

    Raises:
        InputError: missing, damaged, or not an avatar file.
    """
    require_whole(path)
    state = _read(path).get("state")
    if not isinstance(state, dict) or "step" not in state:
        raise InputError(path, "not an avatar file", key="state", expected="weights", found=type(state).__name__)
    return state


def check_same_head_model(path: Path | str, state: Mapping[str, Tensor], model: HeadModel) -> None:
    """Check that a stored avatar was trained with this head model.

    Raises:
        InputError: names both.
    """
    stored = bytes(state["fingerprint"].tolist()).hex() if "fingerprint" in state else "none"
    if stored != model.fingerprint:
        raise InputError(
            path, "trained with another head model", expected=stored, found=f"{model.name} ({model.fingerprint})"
        )


def _read(path: Path) -> dict[str, Any]:
    require_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch refuses what is not plain data, and stumbles on what is broken
        raise InputError(path, "holds more than plain data, or is broken", found=shorten(error)) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise InputError(path, "not an avatar file", key="format", expected=_FORMAT, found=found)
    return content


def _assembled(
    path: Path, config: AvatarConfig, state: dict[str, Tensor], model: HeadModel, neutral: HeadState
) -> Avatar:
    try:
        init = AvatarInit(
            model=model,
            identity=state["identity"],
            static_offset=state["static_offset"],
            states=_each(neutral, lambda value: value[None]),
            num_timesteps=1,
            background=tuple(state["background"].tolist()),  # type: ignore[arg-type]
        )
        avatar = Avatar(config, init)
        avatar.load_state_dict(state, strict=True)
    except (KeyError, RuntimeError) as error:
        raise InputError(path, "settings and weights do not fit each other", found=shorten(error)) from error
    return avatar.eval()


def _info(values: Mapping[str, Any]) -> AvatarInfo:
    camera = dict(values["camera"])
    T = np.array(camera.pop("T_world_camera"), dtype=np.float64)
    states = [HeadState(**values[name]) for name in ("neutral", "lowest", "highest")]
    return AvatarInfo(str(values["head_model"]), Camera(T, **camera), *states)


def _plain(state: HeadState) -> dict[str, Tensor]:
    return {f.name: getattr(state, f.name).detach().cpu().clone() for f in fields(state)}


def _each(state: HeadState, change: Any) -> HeadState:
    return HeadState(**{f.name: change(getattr(state, f.name)) for f in fields(state)})
