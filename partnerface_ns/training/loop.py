"""Training loop without a framework.

The nerfstudio plugin uses the same `RaySampler` and `Schedule`, so both ways of training take the same steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.flame.state import HeadState
from partnerface_ns.rendering.rays import RayBatch
from partnerface_ns.training.captured_step import CapturedStep, backward
from partnerface_ns.training.optimiser_groups import param_groups
from partnerface_ns.training.rays import RaySampler, RaySamplerConfig, TrainingImages
from partnerface_ns.training.schedule import LEARNING_RATES, Schedule, ScheduleConfig
from partnerface_ns.training.step_guard import StepGuard, StepResult


@dataclass
class FitConfig:
    """Settings of a training run."""

    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Length of the run and learning rates."""
    sampler: RaySamplerConfig = field(default_factory=RaySamplerConfig)
    """Rays of each step."""
    seed: int = 0
    """Seed of ray sampling."""


class PlainStep:
    """Computes gradients of batches on any device; `CapturedStep` is the faster equivalent for GPUs."""

    def __init__(self, avatar: Avatar, track: HeadState) -> None:
        self._avatar, self._track = avatar, track

    def __call__(self, batch: RayBatch) -> StepResult:
        """Compute the gradients of a batch and store them in the parameters' `grad`."""
        avatar, timesteps = self._avatar, batch.timesteps
        avatar.zero_grad(set_to_none=True)
        frames = avatar.warp.pose_frames(self._track[timesteps], timesteps)
        output = avatar.render_frames(batch.rays, frames, timesteps)
        result = backward(avatar, output, batch.rgb, batch.mask)
        avatar.end_step(result.finite)
        return result


def run_steps(
    avatar: Avatar,
    images: TrainingImages,
    track: HeadState,
    config: FitConfig,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[tuple[float, StepResult]]:
    """Train an avatar on images, yielding after every step.

    Args:
        avatar: lies on the device that trains.
        images: the training images.
        track: head states of the capture, batch axes (timesteps,).
        config: settings of the run.
        clock: seconds, for `max_minutes`. A process-time clock makes concurrent runs comparable.

    Yields:
        The progress after each step, in [0, 1], and the result of the step.

    Raises:
        InputError: `MAX_LEFT_OUT` steps in a row are not finite.
    """
    sampler = RaySampler(config.sampler, images, config.seed)
    schedule = Schedule(config.schedule, clock=clock)
    groups = [{"params": p, "name": name, "lr": 0.0} for name, p in param_groups(avatar).items()]
    optimizer = torch.optim.Adam(groups, eps=1e-15, fused=True)
    compute_gradients = CapturedStep(avatar, track) if avatar.identity.is_cuda else PlainStep(avatar, track)
    guard = StepGuard("training", [optimizer])
    avatar.train()
    step = 0
    while schedule.progress(step) < 1:
        schedule.tick()
        avatar.set_progress(schedule.progress(step))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATES[group["name"]] * schedule.learning_rate_factor(step, group["name"])
        batch = sampler.sample(step)
        result = compute_gradients(batch)
        guard.admit(step, result, [images.frames[i] for i in batch.image_index.tolist()])
        optimizer.step()
        step += 1
        yield schedule.progress(step), result
    guard.end()


def fit(
    avatar: Avatar,
    images: TrainingImages,
    track: HeadState,
    config: FitConfig,
    on_step: Callable[[int, float, dict[str, float]], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Train an avatar on images; other arguments as for `run_steps`.

    Args:
        on_step: called after each step with the number of steps done, the progress and the loss terms.

    Returns:
        The number of steps done.
    """
    num_steps = 0
    for progress, result in run_steps(avatar, images, track, config, clock):
        num_steps += 1
        if on_step is not None:
            on_step(num_steps, progress, {name: float(value) for name, value in result.terms.items()})
    return num_steps
