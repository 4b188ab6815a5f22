"""What preparing an avatar brings and costs: seconds an image and metrics, exact and fast, in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.capture.capture import Frame
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.load import load_capture
from partnerface_ns.common.clock import synchronized_seconds
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.progress import progress
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.driving.motion import performance
from partnerface_ns.driving.plan import Plan, PlanConfig, make_plan, shown
from partnerface_ns.driving.player import Player
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.rendering.metrics import image_metrics, metric_regions

_REPEATS = 3
_IN_SEQUENCE = 4
"""Images of a sequence that is timed, for each of those that are drawn at once."""
_FIRST_ON_GPU = 5
"""Images that are not counted, 1 on a CPU: they prepare the avatar, build kernels for new shapes, and record a GPU's
work."""


@dataclass(frozen=True)
class Speed:
    """Seconds an image takes."""

    size: int
    exact: float
    """Followed sample by sample, alone."""
    fast: float
    """Alone, as a viewer asks for it."""
    sequence: float
    """Fast, among others of a sequence, as `partnerface drive` draws them."""


@dataclass(frozen=True)
class Quality:
    """Means over test images."""

    exact: dict[str, float]
    fast: dict[str, float]


@dataclass(frozen=True)
class Driven:
    """What was found of one avatar."""

    subject: str
    """Its capture's name, where that is known."""
    avatar: str
    """The run's or the avatar file's name."""
    device: str
    """The machine, in words."""
    speeds: list[Speed]
    quality: Quality | None
    """None where no capture was there to measure by."""
    num_test: int
    """Images measured at most."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from others."""
        return self.subject, self.avatar, self.device


def speeds(player: Player, sizes: Sequence[int]) -> list[Speed]:
    """Median seconds of images of a face that speaks, by longer side; ways take turns: a busy machine slows all."""
    motion, found = performance("talk", player.person.model), []
    first = _FIRST_ON_GPU if player.device.type == "cuda" else 1
    for size in progress(sizes, "Timing"):
        plan = make_plan(player, motion, PlanConfig(size=size))
        moments = cycle(range(len(plan)))  # a face that comes again takes less
        rows = [
            (
                _seconds_alone(player, False, plan, next(moments)),
                _seconds_alone(player, True, plan, next(moments)),
                _seconds_in_sequence(player, plan, list(islice(moments, _IN_SEQUENCE * player.at_once))),
            )
            for _ in range(first + _REPEATS)
        ]
        found.append(Speed(size, *(median(column) for column in zip(*rows[first:], strict=True))))
    return found


def quality(player: Player, folder: Path, num: int, head_model: Path | None = None) -> Quality:
    """Metrics of test images, exact and fast.

    Args:
        folder: the capture that the avatar was trained on.
        num: images at most, spread evenly over the test split.
        head_model: the head model's file, where the capture has none.

    Raises:
        InputError: the capture was tracked with another head model than the avatar's.
    """
    capture = load_capture(folder, head_model=head_model)
    model = player.person.model
    if capture.track.expression.shape[-1] != model.num_expr:
        raise InputError(
            folder, "not tracked with the avatar's head model", expected=model.name, found=capture.head_model.name
        )
    rows: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    background = player.avatar.get_buffer("background").cpu()
    if capture.background is not None:
        background = torch.tensor(capture.background)
    red, green, blue = background.tolist()
    for frame in progress(pick_evenly(capture.frames_of("test"), num), "Measuring"):
        truth = torch.from_numpy(load_image(frame, (red, green, blue))[0]).float() / 255
        state = capture.track[frame.timestep]
        regions = metric_regions(player.person.pose(state).verts, model, frame.camera)
        for fast, measured in rows.items():
            measured.append(image_metrics(_image(player, fast, frame, state, background), truth, regions))
    return Quality(*({name: float(np.nanmean([m[name] for m in ms])) for name in ms[0]} for ms in rows.values()))


def _image(
    player: Player, fast: bool, frame: Frame, state: HeadState, background: Float[Tensor, "3"]
) -> Float[Tensor, "height width 3"]:
    """An image over the capture's background, which may be another than the avatar's."""
    shown = _shown(player, fast, frame.camera, state)
    other = background.to(player.device) - player.avatar.get_buffer("background")
    return (shown["rgb"] + (1 - shown["accumulation"]) * other).cpu()


def _shown(player: Player, fast: bool, camera: Camera, state: HeadState) -> dict[str, torch.Tensor]:
    player.fast = fast
    return player.render(camera, state)


def _seconds_alone(player: Player, fast: bool, plan: Plan, moment: int) -> float:
    began = synchronized_seconds(player.device)
    _shown(player, fast, plan.cameras[moment], plan.states[moment])
    return synchronized_seconds(player.device) - began


def _seconds_in_sequence(player: Player, plan: Plan, moments: Sequence[int]) -> float:
    player.fast, began = True, synchronized_seconds(player.device)
    for _ in player.drawn(lambda moment: shown(player, plan, moment), moments):
        pass
    return (synchronized_seconds(player.device) - began) / len(moments)
