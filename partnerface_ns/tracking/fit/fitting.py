"""Fits a head model to the landmarks and outlines of a whole video.

All frames share one identity and one focal length; each frame has its own rotations, position and expression. Evenly
spread key frames determine the identity first, in three stages: position and size, then everything, then everything
with the outline, which is matched again as the fit improves. All frames are then fitted with the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from partnerface_ns.tracking.fit.fit_head import FitHead
from partnerface_ns.tracking.fit.observations import Fit, Observations
from partnerface_ns.tracking.fit.problem import FitProblem
from partnerface_ns.tracking.fit.unknowns import ONCE, RATES

_OUTLINE_SIGMA = 2.0
"""Uncertainty of the outline at the end of this fit, pixels at 512. It is larger while the surface is far away. The
photometric fit has its own."""
_POSE = ("rotation", "neck", "jaw", "place", "log_depth")
"""Unknowns of the first stage. It includes the jaw, because the expression could otherwise open the mouth."""


@dataclass(frozen=True)
class FitSchedule:
    """Numbers of steps in each stage."""

    key_frames: int = 120
    """Number of frames that determine the identity."""
    place: int = 60
    """Steps for position and size."""
    key: int = 280
    """Steps for everything in the key frames."""
    all: int = 130
    """Steps for everything in all frames."""
    outline: int = 40
    """Steps after each matching of the outline."""
    key_gates: tuple[float, ...] = (40.0, 25.0, 15.0, 12.0)
    """Largest distance between outline and surface at each matching of the key frames, pixels at 512."""
    all_gates: tuple[float, ...] = (15.0, 12.0, 10.0)
    """Largest distance at each matching of all frames, pixels at 512."""

    @property
    def total(self) -> int:
        """Number of all steps."""
        return 2 * self.place + self.key + self.all + self.outline * (len(self.key_gates) + len(self.all_gates))


def fit_track(
    head: FitHead,
    observations: Observations,
    spread: Float[np.ndarray, "landmarks"],
    on_step: Callable[[], None] = lambda: None,
    schedule: FitSchedule | None = None,
    fixed_focal: bool = False,
    device: torch.device | str = "cpu",
) -> Fit:
    """Fit identity, focal length and a track to the observations.

    Args:
        head: the reduced head model.
        observations: landmarks and outlines.
        spread: uncertainty of the landmarks' positions on the head, metres.
        on_step: called after every step, for a progress bar.
        schedule: numbers of steps; None uses the defaults.
        fixed_focal: whether the expected focal length is exact.
        device: device of the computation; the result is on the CPU.
    """
    schedule = schedule or FitSchedule()
    free = tuple(name for name in RATES if not (fixed_focal and name == "log_focal"))
    # Landmarks do not determine hair and shoulders; the outline does.
    inner = tuple(name for name in free if name not in ("displacement", "landmark_bias"))
    key = FitProblem(head, _key_frames(observations, schedule.key_frames), spread, None, device)
    key.minimise(schedule.place, _POSE, on_step=on_step)
    key.minimise(schedule.key, inner, on_step=on_step)
    _fit_outline(key, schedule.key_gates, schedule.outline, free, on_step)

    whole = FitProblem(head, observations, spread, key.unknowns, device)
    whole.minimise(schedule.place, _POSE, on_step=on_step)
    whole.minimise(schedule.all, tuple(name for name in inner if name not in ONCE), on_step=on_step)
    _fit_outline(whole, schedule.all_gates, schedule.outline, free, on_step)
    return whole.result()


def _key_frames(observations: Observations, num: int) -> Observations:
    """At most `num` frames, evenly spread over the video."""
    total = len(observations.times)
    return observations[torch.linspace(0, total - 1, min(num, total)).round().long()]


def _fit_outline(
    problem: FitProblem, gates: tuple[float, ...], steps: int, free: tuple[str, ...], on_step: Callable[[], None]
) -> None:
    """Alternate between matching the outline and minimising, with falling gates and learning rates."""
    for round_, gate in enumerate(gates):
        matches = problem.match_outline(gate * problem.observations.px)
        problem.outline_sigma = max(_OUTLINE_SIGMA, gate / 6) * problem.observations.px
        problem.minimise(steps, free, matches, 0.4 * 0.7**round_, on_step)
