"""Training length, learning rates and the stage change.

Progress is the share of a run that is done. Stage and learning rates depend on progress alone, so a resumed run
continues as if it had not been interrupted. Progress never falls: after a resume with a larger budget it stays the same
until the new budget catches up. Learning rates and their schedule are our choice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class ScheduleConfig:
    """Training length and learning-rate schedule."""

    max_steps: int = 45_000
    """Number of steps of a run."""
    max_minutes: float | None = None
    """Minutes of training after which the run ends, if it does not reach `max_steps` before; None for no limit."""
    warmup_steps: int = 30
    """Steps over which learning rates rise from zero at the start of training."""
    final_factor: float = 0.03
    """Factor on the learning rates at the end of training."""


class Schedule:
    """Progress and learning rates of a run."""

    def __init__(
        self,
        config: ScheduleConfig,
        elapsed_seconds: float = 0.0,
        least_progress: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """
        Args:
            config: length of the run and learning rates.
            elapsed_seconds: seconds that the run trained before it was resumed.
            least_progress: progress that the run had reached before it was resumed.
            clock: seconds; read by `tick`.
        """
        self.config, self._clock = config, clock
        self.elapsed_seconds, self._least_progress = elapsed_seconds, least_progress
        self._last: float | None = None

    def tick(self) -> None:
        """Add the time since the last tick to the elapsed seconds. Call once for each step."""
        now = self._clock()
        if self._last is not None:
            self.elapsed_seconds += now - self._last
        self._last = now

    def progress(self, step: int) -> float:
        """Progress before this step, in [0, 1]: `used_budget`, but at least the progress before a resume."""
        return max(self._least_progress, self.used_budget(step))

    def used_budget(self, step: int) -> float:
        """Share of the steps or of the minutes that is used before this step, whichever is larger, in [0, 1]."""
        by_steps = step / self.config.max_steps
        if self.config.max_minutes is None:
            return min(1.0, by_steps)
        return min(1.0, max(by_steps, self.elapsed_seconds / (60 * self.config.max_minutes)))

    def learning_rate_factor(self, step: int, group: str) -> float:
        """Factor on the learning rate of a group.

        It is zero before the group's `START_PROGRESS`, rises in the warm-up, and falls by a cosine to `final_factor`.
        """
        if self.progress(step) < START_PROGRESS.get(group, 0.0):
            return 0.0
        warmup = min(1.0, (step + 1) / self.config.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress(step)))
        return warmup * (self.config.final_factor + (1 - self.config.final_factor) * cosine)


LEARNING_RATES = {
    "planes": 1e-2,
    "field": 3e-3,
    "deformation": 3e-3,
    "assigner": 2e-3,
    "torso": 2e-3,
    "correction": 1e-4,
}
"""Adam's learning rate of each parameter group."""

START_PROGRESS = {"correction": 0.3}
"""Progress before which a group is not trained; 0 for all others. An untrained field has no shape, and the tracking
correction would fit noise: trained from the start, it moved the hair of an exactly tracked head by 5 mm."""
