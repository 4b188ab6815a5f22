"""What a training step takes, piece by piece, and what it grows with.

All settings take their steps in turns, so that a busy machine slows all of them: the ratios are the result. A capture
of few frames gains a little, because its moments come again within these steps and are remembered.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch.profiler import ProfilerActivity, profile, record_function

from partnerface_ns.bench.pieces import STEP, shares_of_pieces
from partnerface_ns.bench.training_runs import avatar_for
from partnerface_ns.capture.capture import Capture
from partnerface_ns.capture.head_models import resolve_head_model
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.load import load_capture
from partnerface_ns.common.progress import progress
from partnerface_ns.driving.player import scaled_camera
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.training.loop import FitConfig, run_steps
from partnerface_ns.training.presets import lite
from partnerface_ns.training.rays import TrainingImages, region_boxes

FRAMES, SIZES, PARTS = (100, 1000, 3000), (128, 256, 512), (4, 8, 16)
"""Frames of a capture, longer sides of its images, and K; the first of each is what the others are compared with."""
_SIZE, _NUM_PARTS = 256, 8
"""What stays where something else changes."""
_FIRST, _COUNTED = 8, 40
"""Steps that are not counted (a GPU's work is recorded in them), and steps that are."""


@dataclass(frozen=True)
class StepCost:
    """Of one setting."""

    changed: str
    """What is changed: frames, size or parts."""
    value: int
    milliseconds: float
    """Median of a step."""
    ratio: float
    """To the setting with the first value."""


@dataclass(frozen=True)
class StepTimes:
    """Of one capture on one machine."""

    subject: str
    device: str
    """The machine, in words."""
    costs: list[StepCost]
    pieces: dict[str, float]
    """Share of a step on the CPU."""

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others."""
        return self.subject, self.device


@dataclass(frozen=True)
class _Setting:
    changed: str
    value: int
    frames: int
    size: int
    parts: int


def step_costs(folder: Path, device: str, head_model: Path | None = None) -> list[StepCost]:
    """Steps of the lite preset in its soft stage.

    Args:
        folder: a capture; its moments come again and again where more frames are asked for than it has.
        device: where to train.
        head_model: the head model's file, where the capture has none.
    """
    capture, model = _loaded(folder, head_model)
    settings = [
        *(_Setting("frames", n, n, _SIZE, _NUM_PARTS) for n in FRAMES),
        *(_Setting("size", n, FRAMES[0], n, _NUM_PARTS) for n in SIZES),
        *(_Setting("parts", n, FRAMES[0], _SIZE, n) for n in PARTS),
    ]
    runs = [(setting, _steps(capture, model, setting, device)) for setting in progress(settings, "Preparing")]
    taken: dict[_Setting, list[float]] = defaultdict(list)
    for turn in progress(range(_FIRST + _COUNTED), "Timing steps"):
        for setting, run in runs:
            seconds = _timed(run, device)
            if turn >= _FIRST:
                taken[setting].append(seconds)
    medians = {setting: 1000 * median(seconds) for setting, seconds in taken.items()}
    first = {setting.changed: ms for setting, ms in reversed(medians.items())}
    return [StepCost(s.changed, s.value, ms, ms / first[s.changed]) for s, ms in medians.items()]


def pieces_of_a_step(folder: Path, head_model: Path | None = None) -> dict[str, float]:
    """Share of a step's time that each piece of it takes, on the CPU; a piece called within another counts once."""
    run = _steps(*_loaded(folder, head_model), _Setting("", 0, FRAMES[0], _SIZE, _NUM_PARTS), "cpu")
    for _ in progress(range(_FIRST), "Warming up"):
        next(run)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in progress(range(_COUNTED), "Timing pieces"):
            with record_function(STEP):
                next(run)
    return shares_of_pieces(profiler.events() or [])


def _loaded(folder: Path, head_model: Path | None) -> tuple[Capture, HeadModel]:
    capture = load_capture(folder, head_model=head_model)
    return capture, resolve_head_model(capture, head_model)


def _steps(capture: Capture, model: HeadModel, setting: _Setting, device: str) -> Iterator[object]:
    given = capture.frames_of("train")
    index = np.arange(setting.frames) % len(given)
    frames = [
        replace(given[i], timestep=t, camera=scaled_camera(given[i].camera, setting.size)) for t, i in enumerate(index)
    ]
    track = capture.track[torch.tensor([given[i].timestep for i in index])]
    longer = replace(capture, track=track, frames=tuple(frames), splits={"train": tuple(range(len(frames)))})
    seen = [
        _resized(load_image(frame, (1.0, 1.0, 1.0)), shown.camera)
        for frame, shown in zip(given[: setting.frames], frames, strict=False)
    ]
    head = ShapedHead.of(model, capture.identity, capture.static_offset)
    boxes = region_boxes(head, track, frames[: len(seen)])[index]
    images = TrainingImages([seen[i][0] for i in index], [seen[i][1] for i in index], frames, boxes)
    preset = lite(schedule="soft", num_parts=setting.parts)
    avatar = avatar_for(longer, head, frames, preset).to(device)
    return run_steps(avatar, images, track, FitConfig(sampler=preset.sampler))


def _resized(image: tuple[np.ndarray, np.ndarray], camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    rgb, mask = (np.asarray(Image.fromarray(values).resize((camera.width, camera.height))) for values in image)
    return rgb, mask


def _timed(run: Iterator[object], device: str) -> float:
    began = time.perf_counter()
    next(run)
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
