"""One training run of the benchmark: a variant, a subject and a seed, for a fixed time of one thread or of a GPU."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.file_format import AvatarInfo, save_avatar
from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.bench.machine import forget_peak_memory, machine, peak_memory
from partnerface_ns.bench.variants import VARIANTS
from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.head_models import resolve_head_model
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.load import load_capture
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.flame.open_head import OPEN_HEAD_NAME
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.rendering.figures import arrange_sheet, save_image, to_image
from partnerface_ns.rendering.metrics import image_metrics, metric_regions
from partnerface_ns.rendering.rays import rays_of_image
from partnerface_ns.training.loop import FitConfig, fit
from partnerface_ns.training.presets import Preset
from partnerface_ns.training.rays import TrainingImages, region_boxes
from partnerface_ns.training.schedule import ScheduleConfig

HeldOut = Literal["test", "tune", "none"]
"""What is measured: the test split; the last fifth of the training frames, which settings may be chosen by; or the
test split that was trained on as well, which shows what is missed for other reasons than that it was never seen."""
_TUNE_SHARE = 5


@dataclass(frozen=True)
class Job:
    """What to train and how long."""

    subject: Path
    variant: str
    seed: int
    seconds: float
    num_test: int
    """Images to measure, spread evenly over those held out."""
    held_out: HeldOut = "test"
    device: str = "cpu"
    head_model: Path | None = None
    """The head model's file, where the capture has none."""
    images: Path | None = None
    """Folder for a sheet of the measured images."""
    avatars: Path | None = None
    """Folder for the trained avatar."""

    @property
    def name(self) -> str:
        """Of the run's files."""
        kind = [] if self.held_out == "test" else [self.held_out]
        kind += ["gpu"] if self.device.startswith("cuda") else []
        words = "-".join([self.subject.resolve().name, self.variant, *kind, f"{self.seconds:g}s", f"{self.seed}"])
        return re.sub(r"[^\w.-]+", "_", words)


@dataclass(frozen=True)
class Outcome:
    """What came of a job."""

    subject: str
    variant: str
    seed: int
    steps: int
    seconds: float
    """Seconds that training took, of one thread or of a GPU."""
    metrics: dict[str, float]
    """Means over the measured images."""
    seen: dict[str, float]
    """Means over half as many images that it was trained on, the torso predicted as for the others."""
    peak_gib: float
    """Memory that training took at most, GiB: a GPU's, without what recordings keep in reserve, or the process's."""
    held_out: HeldOut = "test"
    device: str = "cpu"
    """The machine, in words."""
    num_test: int = 15
    """Images measured at most."""

    @property
    def key(self) -> tuple[object, ...]:
        """What tells it from other runs."""
        return run_key(self.subject, self.variant, self.seed, self.seconds, self.held_out, self.device, self.num_test)


def run_key(
    subject: str, variant: str, seed: int, seconds: float, held_out: str, device: str, num_test: int
) -> tuple[object, ...]:
    """What tells a run from others; of the device, whether it is a GPU."""
    return subject, variant, seed, seconds, held_out, device.startswith("cuda"), num_test


def run(job: Job) -> Outcome:
    """Train and measure.

    On a CPU it is one thread by its own time, so that other work on the machine changes nothing; on a GPU time is the
    clock's, which is ahead of the GPU's work by 16 steps at most (`StepGuard`).
    """
    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    preset, on_gpu = VARIANTS[job.variant](), torch.device(job.device).type == "cuda"
    capture = load_capture(job.subject, head_model=job.head_model)
    model = resolve_head_model(capture, job.head_model)
    background = capture.background or (1.0, 1.0, 1.0)
    frames, measured = split(capture, job.held_out)
    head = ShapedHead.of(model, capture.identity, capture.static_offset)
    avatar = avatar_for(capture, head, frames, preset).to(job.device)
    images = [load_image(frame, background) for frame in frames]
    boxes = region_boxes(head, capture.track, frames)
    train = TrainingImages([rgb for rgb, _ in images], [mask for _, mask in images], frames, boxes)
    schedule = ScheduleConfig(max_steps=1_000_000, max_minutes=job.seconds / 60)
    config = FitConfig(schedule, preset.sampler, job.seed)
    gc.collect()  # of the run before
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(job.device)
    else:
        forget_peak_memory()
    steps = fit(avatar, train, capture.track, config, clock=time.perf_counter if on_gpu else time.process_time)
    peak = torch.cuda.max_memory_allocated(job.device) if on_gpu else peak_memory()
    metrics, rows = measure(avatar, capture, head, pick_evenly(measured, job.num_test))
    seen, _ = measure(avatar, capture, head, pick_evenly(frames, (job.num_test + 1) // 2))
    if job.images is not None:
        save_image(job.images / f"{job.name}.png", arrange_sheet(rows, ("truth", "ours")))
    if job.avatars is not None:
        source = job.head_model or capture.head_model.path or OPEN_HEAD_NAME
        info = AvatarInfo.of(capture, model, source)
        save_avatar(job.avatars / f"{job.name}.pt", avatar, info)
    return Outcome(
        capture.name,
        job.variant,
        job.seed,
        steps,
        job.seconds,
        metrics,
        seen,
        peak / 2**30,
        job.held_out,
        machine(job.device),
        job.num_test,
    )


def avatar_for(capture: Capture, head: ShapedHead, frames: Sequence[Frame], preset: Preset) -> Avatar:
    """An untrained avatar that may see the head states of some frames and no others."""
    states = capture.track[torch.tensor(sorted({frame.timestep for frame in frames}))]
    return Avatar(preset.avatar, replace(AvatarInit.of(capture, head.model), states=states))


def split(capture: Capture, held_out: HeldOut) -> tuple[list[Frame], list[Frame]]:
    """Frames to train on, and frames to measure."""
    train, test = list(capture.frames_of("train")), list(capture.frames_of("test"))
    if held_out == "tune":
        last = max(1, len(train) // _TUNE_SHARE)
        return train[:-last], train[-last:]
    return (train + test if held_out == "none" else train), test


@torch.no_grad()
def measure(
    avatar: Avatar, capture: Capture, head: ShapedHead, frames: Sequence[Frame]
) -> tuple[dict[str, float], list[list[UInt8[np.ndarray, "height width 3"]]]]:
    """Mean metrics of an avatar on frames, and for each frame the true image and ours."""
    avatar.eval()
    metrics, shown = [], []
    for frame in frames:
        rgb, _ = load_image(frame, capture.background or (1.0, 1.0, 1.0))
        regions = metric_regions(head.pose(capture.track[frame.timestep]).verts, head.model, frame.camera)
        ours = render(avatar, capture, frame)
        metrics.append(image_metrics(ours, torch.from_numpy(rgb).float() / 255, regions))
        shown.append([rgb, to_image(ours)])
    return {name: float(np.nanmean([row[name] for row in metrics])) for name in metrics[0]}, shown


@torch.no_grad()
def render(avatar: Avatar, capture: Capture, frame: Frame) -> Float[Tensor, "height width 3"]:
    """The avatar's image of a frame in [0, 1], on the CPU, its torso predicted from the head's pose."""
    camera, device = frame.camera, avatar.identity.device
    rays = rays_of_image(camera, device)
    rgb = avatar.render(rays, capture.track[torch.tensor([frame.timestep])].to(device)).rgb
    return rgb.cpu().reshape(camera.height, camera.width, 3)
