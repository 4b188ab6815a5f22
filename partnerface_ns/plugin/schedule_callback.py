"""The schedule of a training run, applied at every step: stage, learning rates, end.

The schedule depends on the step, the seconds trained and the progress before a resume. All are in the checkpoint, so a
resumed run continues as if it had not been interrupted. The step also seeds all randomness.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.distributed as dist
from nerfstudio.engine.trainer import writer
from nerfstudio.utils import comms

from partnerface_ns.common.progress import report_progress
from partnerface_ns.training.schedule import Schedule, ScheduleConfig

_ROUNDING = 1e-4
"""Difference of two shares below which they are equal. Seconds are stored as float32."""


class ScheduleCallback:
    """Sets stage and learning rates, and ends the run."""

    def __init__(self, model: Any, trainer: Any) -> None:
        """
        Args:
            model: the `PartnerfaceModel`, with its checkpoint loaded.
            trainer: the `PartnerfaceTrainer` that trains it.
        """
        self._model, self._trainer = model, trainer
        config = ScheduleConfig(
            max_steps=trainer.config.max_num_iterations, max_minutes=trainer.config.max_train_minutes
        )
        progress, start_step = float(model.progress), trainer._start_step
        self._schedule = Schedule(config, float(model.trained_seconds), progress)
        self._start_time = 0.0
        if start_step > 0 and comms.is_main_process():
            _report_budget(progress, self._schedule.used_budget(start_step))

    def before_step(self, step: int) -> None:
        """Set seed, stage and learning rates of a step."""
        self._start_time = time.perf_counter()
        torch.manual_seed(self._trainer.config.machine.seed * 1_000_003 + step)
        self._model.avatar.set_progress(self._schedule.progress(step))
        for name, optimizer in self._trainer.optimizers.optimizers.items():
            factor = self._schedule.learning_rate_factor(step, name)
            for group in optimizer.param_groups:
                group["lr"] = self._trainer.config.optimizers[name]["optimizer"].lr * factor

    def after_step(self, step: int) -> None:
        """Count the step and its seconds, and end the run when it is complete."""
        seconds = self._schedule.elapsed_seconds + time.perf_counter() - self._start_time
        self._schedule.elapsed_seconds = self._of_main_process(seconds)
        self._model.trained_seconds.fill_(self._schedule.elapsed_seconds)
        self._model.progress.fill_(self._schedule.progress(step + 1))
        self._trainer.last_step = step
        used = self._schedule.used_budget(step + 1)
        report_progress("Training", used)
        # nerfstudio estimates the remaining time from this number. With a limit in minutes it is an estimate itself.
        writer.GLOBAL_BUFFER["max_iter"] = round((step + 1) / used)
        if used >= 1:
            self._trainer.stop_training = True

    def _of_main_process(self, seconds: float) -> float:
        """The main process's seconds, because all processes of a run must have the same schedule."""
        if comms.get_world_size() == 1 or self._schedule.config.max_minutes is None:
            return seconds
        shared = torch.tensor(seconds, dtype=torch.float64, device=self._model.device)
        dist.broadcast(shared, 0)
        return float(shared)


def _report_budget(progress: float, used: float) -> None:
    """Print a line if the budget of a resumed run differs from the budget before.

    Args:
        progress: the run's progress when it stopped.
        used: the share of the new budget that is used.
    """
    if used < progress - _ROUNDING:
        print(
            f"The budget is larger than before: {used:.0%} of it is used. Learning rates and stage stay as at "
            f"{progress:.0%} until that share is used."
        )
    elif used > progress + _ROUNDING and progress > 0:
        print(f"The budget is smaller than before: learning rates and stage go on from {used:.0%}, not {progress:.0%}.")
