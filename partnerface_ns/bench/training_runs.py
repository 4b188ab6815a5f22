"""One training run of a benchmark: a capture, a variant and a seed, trained for a fixed time and measured."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.file_format import AvatarInfo, save_avatar
from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.bench.machine import describe_machine, peak_memory, reset_peak_memory
from partnerface_ns.bench.variants import VARIANTS
from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.load_with_head_model import load_with_head_model
from partnerface_ns.capture.names import CAPTURES_OWN_SPLIT, SplitName
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.flame.open_head import OPEN_HEAD_NAME
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.rendering.figures import arrange_sheet, save_image, to_image
from partnerface_ns.rendering.metric_regions import metric_regions
from partnerface_ns.rendering.metrics import image_metrics, load_lpips, mean_metrics
from partnerface_ns.rendering.rays import rays_of_image
from partnerface_ns.training.loop import FitConfig, fit
from partnerface_ns.training.presets import Preset
from partnerface_ns.training.rays import TrainingImages
from partnerface_ns.training.refit import Refitter
from partnerface_ns.training.region_boxes import region_boxes
from partnerface_ns.training.schedule import ScheduleConfig

HeldOut = Literal["test", "tune", "none"]
"""What is measured.

- test: the test split, for reporting
- tune: the last fifth of the training frames, for choosing settings
- none: the test split after training on it as well, which shows errors that are not due to generalisation
"""
_TUNE_SHARE = 5
"""One in so many training frames is held out for tuning."""


@dataclass(frozen=True)
class Job:
    """One run to train and measure."""

    subject: Path
    """Folder of the capture."""
    variant: str
    seed: int
    seconds: float
    """Training time."""
    num_test: int
    """Images to measure at most, evenly spread over the held-out frames."""
    held_out: HeldOut = "test"
    device: str = "cpu"
    head_model: Path | None = None
    """The head model's file, if the capture does not contain it."""
    images: Path | None = None
    """Folder for a sheet of the measured images; None writes none."""
    avatars: Path | None = None
    """Folder for the trained avatar; None writes none."""
    split: SplitName | None = None
    """Split by time in place of the capture's own (`capture/splits.py`)."""
    refit: bool = False
    """Whether the images are also measured after a refit of their head states."""

    @property
    def name(self) -> str:
        """Name of the run's files, without suffix."""
        kind = [] if self.held_out == "test" else [self.held_out]
        kind += [] if self.split is None else [self.split]
        kind += ["gpu"] if self.device.startswith("cuda") else []
        words = "-".join([self.subject.resolve().name, self.variant, *kind, f"{self.seconds:g}s", f"{self.seed}"])
        return re.sub(r"[^\w.-]+", "_", words)


@dataclass(frozen=True)
class RunResult:
    """The result of a run."""

    subject: str
    variant: str
    seed: int
    steps: int
    seconds: float
    """Training time: CPU time of one thread, or wall-clock time on a GPU."""
    metrics: dict[str, float]
    """Means over the measured images."""
    seen: dict[str, float]
    """Means over half as many training images, without the learned residuals, as for the measured ones."""
    peak_gib: float
    """Peak memory of training in GiB: the GPU's allocated memory, or the memory of the process."""
    held_out: HeldOut = "test"
    device: str = "cpu"
    """Description of the machine."""
    num_test: int = 15
    """Images measured at most."""
    split: str = CAPTURES_OWN_SPLIT
    """Name of the split, or `CAPTURES_OWN_SPLIT`."""
    refitted: dict[str, float] | None = None
    """Means over the measured images after a refit (`training/refit.py`); None if none was made."""

    @property
    def key(self) -> tuple[object, ...]:
        """Identifies the run."""
        run = self.subject, self.variant, self.seed, self.seconds
        return run_key(*run, self.held_out, self.device, self.num_test, self.split)


def run_key(
    subject: str, variant: str, seed: int, seconds: float, held_out: str, device: str, num_test: int, split: str
) -> tuple[object, ...]:
    """Identifies a run. Of the device only its kind counts: GPU or CPU."""
    return subject, variant, seed, seconds, held_out, device.startswith("cuda"), num_test, split


def train_and_measure(job: Job) -> RunResult:
    """Train and measure one run.

    On a CPU training uses one thread and its CPU time, so that other load does not change the result. On a GPU it uses
    wall-clock time, which is at most 16 steps ahead of the GPU's work (`StepGuard`).
    """
    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    preset, on_gpu = VARIANTS[job.variant](), torch.device(job.device).type == "cuda"
    capture, model = load_with_head_model(job.subject, head_model=job.head_model, split=job.split)
    frames, measured = split_frames(capture, job.held_out)
    head = ShapedHead.of(model, capture.identity, capture.static_offset)
    avatar = avatar_for(capture, head, frames, preset).to(job.device)
    train = _training_images(capture, head, frames)
    schedule = ScheduleConfig(max_steps=1_000_000, max_minutes=job.seconds / 60)
    config = FitConfig(schedule, preset.sampler, job.seed)
    gc.collect()  # frees the previous run of this process
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(job.device)
    else:
        reset_peak_memory()
    steps = fit(avatar, train, capture.track, config, clock=time.perf_counter if on_gpu else time.process_time)
    peak = torch.cuda.max_memory_allocated(job.device) if on_gpu else peak_memory()
    metrics, rows = measure(avatar, capture, head, pick_evenly(measured, job.num_test))
    seen, _ = measure(avatar, capture, head, pick_evenly(frames, (job.num_test + 1) // 2))
    refitted = None
    if job.refit:
        of_training = capture.track[torch.tensor(sorted({frame.timestep for frame in frames}))]
        refitter = Refitter(avatar, of_training)
        refitted, _ = measure(avatar, capture, head, pick_evenly(measured, job.num_test), refitter)
    if job.images is not None:
        save_image(job.images / f"{job.name}.png", arrange_sheet(rows, ("truth", "ours")))
    if job.avatars is not None:
        source = job.head_model or capture.head_model.path or OPEN_HEAD_NAME
        info = AvatarInfo.of(capture, model, source)
        save_avatar(job.avatars / f"{job.name}.pt", avatar, info)
    return RunResult(
        capture.name,
        job.variant,
        job.seed,
        steps,
        job.seconds,
        metrics,
        seen,
        peak / 2**30,
        job.held_out,
        describe_machine(job.device),
        job.num_test,
        job.split or CAPTURES_OWN_SPLIT,
        refitted,
    )


def _training_images(capture: Capture, head: ShapedHead, frames: list[Frame]) -> TrainingImages:
    background = capture.background or (1.0, 1.0, 1.0)
    images = [load_image(frame, background) for frame in frames]
    boxes = region_boxes(head, capture.track, frames)
    return TrainingImages([rgb for rgb, _ in images], [mask for _, mask in images], frames, boxes)


def avatar_for(capture: Capture, head: ShapedHead, frames: Sequence[Frame], preset: Preset) -> Avatar:
    """An untrained avatar that is initialised from the head states and mattes of these frames only."""
    return Avatar(preset.avatar, AvatarInit.of(capture, head.model, frames=frames))


def split_frames(capture: Capture, held_out: HeldOut) -> tuple[list[Frame], list[Frame]]:
    """The frames to train on, and the frames to measure."""
    train, test = list(capture.frames_of("train")), list(capture.frames_of("test"))
    if held_out == "tune":
        last = max(1, len(train) // _TUNE_SHARE)
        return train[:-last], train[-last:]
    return (train + test if held_out == "none" else train), test


@torch.no_grad()
def measure(
    avatar: Avatar, capture: Capture, head: ShapedHead, frames: Sequence[Frame], refitter: Refitter | None = None
) -> tuple[dict[str, float], list[list[UInt8[np.ndarray, "height width 3"]]]]:
    """Mean metrics of an avatar on frames, and for each frame the true and the rendered image.

    With a refitter, head states are fitted to the images before. The regions are those of the tracked heads all the
    same.
    """
    avatar.eval()
    metrics, image_rows = [], []
    lpips, _ = load_lpips()
    for frame in frames:
        rgb, mask = load_image(frame, capture.background or (1.0, 1.0, 1.0))
        verts, foreground = head.surface(capture.track[frame.timestep]), torch.from_numpy(mask) > 127
        regions = metric_regions(verts, head.model, frame.camera, foreground)
        truth, state = torch.from_numpy(rgb).float() / 255, capture.track[torch.tensor([frame.timestep])]
        if refitter is not None:
            rays = rays_of_image(frame.camera, avatar.identity.device)
            state = refitter.refit(state, rays, truth.flatten(0, 1), regions["head"].flatten())
        rendered = render(avatar, frame, state)
        metrics.append(image_metrics(rendered, truth, regions, lpips))
        image_rows.append([rgb, to_image(rendered)])
    return mean_metrics(metrics), image_rows


@torch.no_grad()
def render(avatar: Avatar, frame: Frame, state: HeadState) -> Float[Tensor, "height width 3"]:
    """The avatar's image of a frame in [0, 1], on the CPU, without learned residuals.

    Args:
        avatar: in evaluation mode.
        frame: gives the camera.
        state: the head state, batch axes (1,).
    """
    camera, device = frame.camera, avatar.identity.device
    rgb = avatar.render(rays_of_image(camera, device), state.to(device)).rgb
    return rgb.cpu().reshape(camera.height, camera.width, 3)
