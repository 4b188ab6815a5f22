"""Cost of a training step: its pieces, and how it grows with frames, image size and number of parts.

The steps of all settings alternate, so that other load on the machine slows all of them; the ratios are the result. A
capture with few frames takes slightly less, because its frames repeat within these steps and are cached.
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
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.load_with_head_model import load_with_head_model
from partnerface_ns.common.progress import progress
from partnerface_ns.driving.player import scale_camera
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.training.loop import FitConfig, run_steps
from partnerface_ns.training.presets import lite
from partnerface_ns.training.rays import TrainingImages
from partnerface_ns.training.region_boxes import region_boxes

FRAMES, SIZES, PARTS = (100, 1000, 3000), (128, 256, 512), (4, 8, 16)
"""Frames of a capture, longer sides of its images, and numbers of parts. Ratios are relative to the first of each."""
_SIZE, _NUM_PARTS = 256, 8
"""Size and number of parts where something else varies."""
_WARM_UP, _MEASURED = 8, 40
"""Steps that are discarded (a GPU captures its graphs in them), and steps that are measured."""


@dataclass(frozen=True)
class StepCost:
    """Cost of a step with one setting."""

    changed: str
    """What varies: frames, size or parts."""
    value: int
    milliseconds: float
    """Median over steps."""
    ratio: float
    """Relative to the first value of what varies."""


@dataclass(frozen=True)
class StepTimes:
    """Costs of steps on one capture and machine."""

    subject: str
    device: str
    """Description of the machine."""
    costs: list[StepCost]
    pieces: dict[str, float]
    """Share of each piece of a step on the CPU."""

    @property
    def key(self) -> tuple[str, str]:
        """Identifies the capture and the machine."""
        return self.subject, self.device


@dataclass(frozen=True)
class _Setting:
    changed: str
    value: int
    frames: int
    size: int
    parts: int


def measure_step_costs(folder: Path, device: str, head_model: Path | None = None) -> list[StepCost]:
    """Costs of a step of the lite preset in its soft stage.

    Args:
        folder: a capture; its frames are repeated where a setting needs more than it has.
        device: the device to train on.
        head_model: the head model's file, if the capture does not contain it.
    """
    capture, model = load_with_head_model(folder, head_model=head_model)
    settings = [
        *(_Setting("frames", n, n, _SIZE, _NUM_PARTS) for n in FRAMES),
        *(_Setting("size", n, FRAMES[0], n, _NUM_PARTS) for n in SIZES),
        *(_Setting("parts", n, FRAMES[0], _SIZE, n) for n in PARTS),
    ]
    runs = [(setting, _training_steps(capture, model, setting, device)) for setting in progress(settings, "Preparing")]
    times: dict[_Setting, list[float]] = defaultdict(list)
    for step in progress(range(_WARM_UP + _MEASURED), "Timing steps"):
        for setting, run in runs:
            seconds = _time_step(run, device)
            if step >= _WARM_UP:
                times[setting].append(seconds)
    medians = {setting: 1000 * median(seconds) for setting, seconds in times.items()}
    first = {setting.changed: ms for setting, ms in reversed(medians.items())}
    return [StepCost(s.changed, s.value, ms, ms / first[s.changed]) for s, ms in medians.items()]


def measure_pieces(folder: Path, head_model: Path | None = None) -> dict[str, float]:
    """Share of each piece in the time of a step, on the CPU."""
    capture, model = load_with_head_model(folder, head_model=head_model)
    run = _training_steps(capture, model, _Setting("", 0, FRAMES[0], _SIZE, _NUM_PARTS), "cpu")
    for _ in progress(range(_WARM_UP), "Warming up"):
        next(run)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in progress(range(_MEASURED), "Timing pieces"):
            with record_function(STEP):
                next(run)
    return shares_of_pieces(profiler.events() or [])


def _training_steps(capture: Capture, model: HeadModel, setting: _Setting, device: str) -> Iterator[object]:
    """The training steps of a setting, on the capture's training frames, repeated and resized."""
    given = capture.frames_of("train")
    index = np.arange(setting.frames) % len(given)
    frames = [
        replace(given[i], timestep=t, camera=scale_camera(given[i].camera, setting.size)) for t, i in enumerate(index)
    ]
    track = capture.track[torch.tensor([given[i].timestep for i in index])]
    longer = replace(capture, track=track, frames=tuple(frames), splits={"train": tuple(range(len(frames)))})
    resized = [
        _resize(load_image(original, (1.0, 1.0, 1.0)), frame.camera)
        for original, frame in zip(given[: setting.frames], frames, strict=False)
    ]
    head = ShapedHead.of(model, capture.identity, capture.static_offset)
    boxes = region_boxes(head, track, frames[: len(resized)])[index]
    images = TrainingImages([resized[i][0] for i in index], [resized[i][1] for i in index], frames, boxes)
    preset = lite(schedule="soft", num_parts=setting.parts)
    avatar = avatar_for(longer, head, frames, preset).to(device)
    return run_steps(avatar, images, track, FitConfig(sampler=preset.sampler))


def _resize(image: tuple[np.ndarray, np.ndarray], camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Colours and mask at the resolution of a camera."""
    rgb, mask = (np.asarray(Image.fromarray(values).resize((camera.width, camera.height))) for values in image)
    return rgb, mask


def _time_step(run: Iterator[object], device: str) -> float:
    began = time.perf_counter()
    next(run)
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
