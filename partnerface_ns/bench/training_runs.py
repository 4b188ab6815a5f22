"""One training run of the benchmark: a variant, a subject and a seed, for a fixed time of one thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from partnerface_ns.avatar import Avatar
from partnerface_ns.bench.variants import VARIANTS
from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.head_models import resolve_head_model
from partnerface_ns.capture.images import load_picture
from partnerface_ns.capture.load import load_capture
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.geometry.camera import Intrinsics, rays_through_pixels
from partnerface_ns.rendering.metrics import image_metrics, metric_regions
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.subject import Subject
from partnerface_ns.training import FitConfig, Pictures, ScheduleConfig, fit, region_boxes

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
    """Pictures to measure, spread evenly over those held out."""
    held_out: HeldOut = "test"


@dataclass(frozen=True)
class Outcome:
    """What came of a job."""

    subject: str
    variant: str
    seed: int
    steps: int
    seconds: float
    """Seconds of one thread that training took."""
    metrics: dict[str, float]
    """Means over the measured pictures."""
    held_out: HeldOut = "test"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def run(job: Job) -> Outcome:
    """Train and measure, on one thread and by its own time, so that other work on the machine changes nothing."""
    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    capture = load_capture(job.subject)
    model = resolve_head_model(capture, None)
    background = capture.background or (1.0, 1.0, 1.0)
    frames, measured = split(capture, job.held_out)
    states = capture.track[torch.tensor(sorted({frame.timestep for frame in frames}))]
    avatar = Avatar(VARIANTS[job.variant](), replace(Subject.of(capture, model), states=states))
    pictures = [load_picture(frame, background) for frame in frames]
    head = ShapedHead.of(model, capture.identity, capture.static_offset)
    boxes = region_boxes(head, capture.track, frames)
    schedule = ScheduleConfig(max_steps=1_000_000, max_minutes=job.seconds / 60)
    train = Pictures([rgb for rgb, _ in pictures], [mask for _, mask in pictures], frames, boxes)
    steps = fit(avatar, train, capture.track, FitConfig(schedule, seed=job.seed), clock=time.process_time)
    metrics = measure(avatar, capture, model, head, spread(measured, job.num_test))
    return Outcome(capture.name, job.variant, job.seed, steps, job.seconds, metrics, job.held_out)


def split(capture: Capture, held_out: HeldOut) -> tuple[list[Frame], list[Frame]]:
    """Frames to train on, and frames to measure."""
    train, test = list(capture.frames_of("train")), list(capture.frames_of("test"))
    if held_out == "tune":
        last = max(1, len(train) // _TUNE_SHARE)
        return train[:-last], train[-last:]
    return (train + test if held_out == "none" else train), test


def spread(frames: Sequence[Frame], num: int) -> list[Frame]:
    """At most `num` of the frames, evenly spread."""
    chosen = np.linspace(0, len(frames) - 1, min(num, len(frames))).round().astype(int)
    return [frames[i] for i in chosen]


@torch.no_grad()
def measure(
    avatar: Avatar, capture: Capture, model: HeadModel, head: ShapedHead, frames: Sequence[Frame]
) -> dict[str, float]:
    """Mean metrics of an avatar on frames it was not trained on."""
    avatar.eval()
    rows = []
    for frame in frames:
        rgb, _ = load_picture(frame, capture.background or (1.0, 1.0, 1.0))
        verts = head.pose(capture.track[frame.timestep]).verts
        regions = metric_regions(verts, model, frame.camera)
        rows.append(image_metrics(render(avatar, capture, frame), torch.from_numpy(rgb).float() / 255, regions))
    return {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}


@torch.no_grad()
def render(avatar: Avatar, capture: Capture, frame: Frame, rays_at_once: int = 1 << 14) -> torch.Tensor:
    """The avatar's picture of a frame, (height, width, 3) in [0, 1], its torso predicted from the head's pose."""
    camera, device = frame.camera, avatar.identity.device
    rows, columns = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
    centers = torch.stack([columns, rows], -1).reshape(-1, 2) + 0.5
    intrinsics = Intrinsics(camera.fl_x, camera.fl_y, camera.cx, camera.cy)
    T = torch.from_numpy(camera.T_world_camera).float()
    states = capture.track[torch.tensor([frame.timestep])].to(device)
    parts = []
    for chunk in centers.split(rays_at_once):
        origins, directions = rays_through_pixels(chunk, intrinsics, T)
        index = torch.zeros(len(chunk), dtype=torch.long, device=device)
        parts.append(avatar.render(Rays(origins.to(device), directions.to(device), index), states)["rgb"].cpu())
    return torch.cat(parts).reshape(camera.height, camera.width, 3)
