"""Speed and quality of an avatar's images: exact, and fast from the baked avatar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.capture.capture import Frame
from partnerface_ns.capture.head_models import check_head_model
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.load import load_capture
from partnerface_ns.capture.plausibility import drop_torn_heads
from partnerface_ns.common.clock import synchronized_seconds
from partnerface_ns.common.progress import progress
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.driving.motion import builtin_motion
from partnerface_ns.driving.plan import Plan, PlanConfig, make_plan, render_frame
from partnerface_ns.driving.player import Player
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.rendering.metric_regions import metric_regions
from partnerface_ns.rendering.metrics import image_metrics, load_lpips, mean_metrics

_REPEATS = 3
"""Measurements of which the median is taken."""
_PER_SEQUENCE = 4
"""Images of a timed sequence for each image that is rendered in parallel."""
_GPU_WARM_UP = 5
"""Measurements on a GPU that are discarded, 1 on a CPU. They bake the avatar, build kernels and capture CUDA graphs."""


@dataclass(frozen=True)
class Speed:
    """Seconds per image."""

    size: int
    """Longer side, pixels."""
    exact: float
    """A single image, by following every sample."""
    fast: float
    """A single image of the baked avatar, as a viewer requests it."""
    sequence: float
    """An image of a sequence from the baked avatar, as `partnerface drive` renders it."""


@dataclass(frozen=True)
class Quality:
    """Mean metrics over test images."""

    exact: dict[str, float]
    fast: dict[str, float]


@dataclass(frozen=True)
class RenderingResult:
    """Speed and quality of one avatar on one machine."""

    subject: str
    """Name of its capture; empty if no capture was given."""
    avatar: str
    """Name of the run or the avatar file."""
    device: str
    """Description of the machine."""
    speeds: list[Speed]
    quality: Quality | None
    """None if no capture was given."""
    num_test: int
    """Images measured at most."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Identifies the avatar and the machine."""
        return self.subject, self.avatar, self.device


def time_images(player: Player, sizes: Sequence[int]) -> list[Speed]:
    """Median seconds per image of a talking face, for each longer side.

    The ways of rendering alternate, so that other load on the machine slows all of them.
    """
    motion, speeds = builtin_motion("talk", player.person.model), []
    warm_up = _GPU_WARM_UP if player.device.type == "cuda" else 1
    for size in progress(sizes, "Timing"):
        plan = make_plan(player, motion, PlanConfig(size=size))
        frames = cycle(range(len(plan)))  # every measurement has a new head state: repeated ones are cached
        rows = [
            (
                _seconds_alone(player, False, plan, next(frames)),
                _seconds_alone(player, True, plan, next(frames)),
                _seconds_in_sequence(player, plan, list(islice(frames, _PER_SEQUENCE * player.num_parallel))),
            )
            for _ in range(warm_up + _REPEATS)
        ]
        speeds.append(Speed(size, *(median(column) for column in zip(*rows[warm_up:], strict=True))))
    return speeds


def measure_quality(player: Player, folder: Path, num: int, head_model: Path | None = None) -> Quality:
    """Metrics of test images, exact and fast.

    Args:
        player: the avatar.
        folder: the capture that the avatar was trained on.
        num: images at most, evenly spread over the test split.
        head_model: the head model's file, if the capture does not contain it.

    Raises:
        InputError: the capture was tracked with another head model than the avatar's.
    """
    capture = load_capture(folder, head_model=head_model)
    model = player.person.model
    check_head_model(capture, model)
    capture = drop_torn_heads(capture, model)
    rows: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    background = player.avatar.get_buffer("background").cpu()
    if capture.background is not None:
        background = torch.tensor(capture.background)
    red, green, blue = background.tolist()
    lpips, _ = load_lpips()
    for frame in progress(pick_evenly(capture.frames_of("test"), num), "Measuring"):
        rgb, mask = load_image(frame, (red, green, blue))
        truth = torch.from_numpy(rgb).float() / 255
        state = capture.track[frame.timestep]
        regions = metric_regions(player.person.surface(state), model, frame.camera, torch.from_numpy(mask) > 127)
        for fast, metrics in rows.items():
            metrics.append(image_metrics(_image(player, fast, frame, state, background), truth, regions, lpips))
    return Quality(*map(mean_metrics, rows.values()))


def _image(
    player: Player, fast: bool, frame: Frame, state: HeadState, background: Float[Tensor, "3"]
) -> Float[Tensor, "height width 3"]:
    """The avatar's image over another background than its own."""
    outputs = _render(player, fast, frame.camera, state)
    difference = background.to(player.device) - player.avatar.get_buffer("background")
    return (outputs["rgb"] + (1 - outputs["accumulation"]) * difference).cpu()


def _render(player: Player, fast: bool, camera: Camera, state: HeadState) -> dict[str, torch.Tensor]:
    player.fast = fast
    return player.render(camera, state)


def _seconds_alone(player: Player, fast: bool, plan: Plan, frame: int) -> float:
    began = synchronized_seconds(player.device)
    _render(player, fast, plan.cameras[frame], plan.states[frame])
    return synchronized_seconds(player.device) - began


def _seconds_in_sequence(player: Player, plan: Plan, frames: Sequence[int]) -> float:
    player.fast, began = True, synchronized_seconds(player.device)
    for _ in player.map_images(lambda frame: render_frame(player, plan, frame), frames):
        pass
    return (synchronized_seconds(player.device) - began) / len(frames)
