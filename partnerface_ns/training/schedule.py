"""Training length, learning rates and the stage change.

Progress is the share of a run that is done. Stage and learning rates depend on progress alone, so a resumed run
continues as if it had not been interrupted. Learning rates and their schedule are our choice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class ScheduleConfig:
    """How training goes with time."""

    max_steps: int = 30_000
    """Steps of a whole run."""
    max_minutes: float | None = None
    """Minutes of training after which the run ends, if that is before `max_steps`; None for no limit."""
    warmup_steps: int = 100
    """Steps over which the learning rates of what learns from the start rise from zero."""
    final_factor: float = 0.03
    """Learning rates at the end of training, as a share of those after the warm-up."""


class Schedule:
    """Progress of a run and what follows from it.

    Progress is the share of steps or of minutes done, whichever is further; stage and learning rates depend on it
    alone, so a resumed run goes on as if unbroken.
    """

    def __init__(
        self, config: ScheduleConfig, elapsed_seconds: float = 0.0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """
        Args:
            config: length and course of the run.
            elapsed_seconds: trained before.
            clock: what `tick` reads, in seconds.
        """
        self.config, self._clock = config, clock
        self.elapsed_seconds = elapsed_seconds
        self._last: float | None = None

    def tick(self) -> None:
        """Count the time since the last tick; call once a step."""
        now = self._clock()
        if self._last is not None:
            self.elapsed_seconds += now - self._last
        self._last = now

    def progress(self, step: int) -> float:
        """Share of the run done before this step, in [0, 1]."""
        by_steps = step / self.config.max_steps
        if self.config.max_minutes is None:
            return min(1.0, by_steps)
        return min(1.0, max(by_steps, self.elapsed_seconds / (60 * self.config.max_minutes)))

    def learning_rate_factor(self, step: int, group: str) -> float:
        """Factor on a group's learning rate: zero before its share in `START_PROGRESS`; a warm-up, then a cosine down to
        `final_factor`.
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
"""Learning rate of each of the avatar's parameter groups, for Adam."""

START_PROGRESS = {"correction": 0.3}
"""Share of training, 0 to 1, before which a group stays as it is. While the field has no shape yet, a correction of
tracking fits anything: begun at once it moved the hair of an exactly tracked head by 5 mm."""
