"""The course of a training run, set at every step: stage, learning rates, end.

All of it follows from the share of the run that is done, and that from the step and from the seconds trained, which
lie in the checkpoint: a resumed run goes on as if unbroken. Randomness is seeded by the step for the same reason.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from nerfstudio.engine.trainer import writer

from partnerface_ns.training.schedule import Schedule, ScheduleConfig


class ScheduleCallback:
    """Turns steps into stage and learning rates, and ends the run."""

    def __init__(self, model: Any, trainer: Any) -> None:
        """
        Args:
            model: the `PartnerfaceModel`, its checkpoint already loaded.
            trainer: the `PartnerfaceTrainer` that runs it.
        """
        self._model, self._trainer = model, trainer
        config = ScheduleConfig(
            max_steps=trainer.config.max_num_iterations, max_minutes=trainer.config.max_train_minutes
        )
        self._schedule = Schedule(config, float(model.trained_seconds))
        self._began = 0.0

    def before_step(self, step: int) -> None:
        """Set the stage and the learning rates that belong to a step."""
        self._began = time.perf_counter()
        torch.manual_seed(self._trainer.config.machine.seed * 1_000_003 + step)
        self._model.avatar.set_progress(self._schedule.progress(step))
        for name, optimizer in self._trainer.optimizers.optimizers.items():
            factor = self._schedule.learning_rate_factor(step, name)
            for group in optimizer.param_groups:
                group["lr"] = self._trainer.config.optimizers[name]["optimizer"].lr * factor

    def after_step(self, step: int) -> None:
        """Count the step and its seconds; end the run when all of it is done."""
        self._schedule.elapsed_seconds += time.perf_counter() - self._began
        self._model.trained_seconds.fill_(self._schedule.elapsed_seconds)
        self._trainer.last_step = step
        progress = self._schedule.progress(step + 1)
        # nerfstudio tells the time left from the number of steps; a run that minutes end has as many as it gets.
        writer.GLOBAL_BUFFER["max_iter"] = round((step + 1) / progress)
        if progress >= 1:
            self._trainer.stop_training = True

    def done(self, step: int) -> bool:
        """Whether nothing is left to train from this step on."""
        return self._schedule.progress(step) >= 1
