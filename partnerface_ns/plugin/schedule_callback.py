"""The schedule of a training run, applied at every step: stage, learning rates, end.

The schedule depends on the step and on the seconds trained. Both are in the checkpoint, so a resumed run continues as
if it had not been interrupted. The step also seeds all randomness.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from nerfstudio.engine.trainer import writer

from partnerface_ns.common.progress import report_progress
from partnerface_ns.training.schedule import Schedule, ScheduleConfig


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
        self._schedule = Schedule(config, float(model.trained_seconds))
        self._start_time = 0.0

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
        self._schedule.elapsed_seconds += time.perf_counter() - self._start_time
        self._model.trained_seconds.fill_(self._schedule.elapsed_seconds)
        self._trainer.last_step = step
        progress = self._schedule.progress(step + 1)
        report_progress("Training", progress)
        # nerfstudio estimates the remaining time from this number. With a limit in minutes it is an estimate itself.
        writer.GLOBAL_BUFFER["max_iter"] = round((step + 1) / progress)
        if progress >= 1:
            self._trainer.stop_training = True
