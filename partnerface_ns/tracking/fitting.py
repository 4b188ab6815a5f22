"""Fitting a head model to landmarks and outlines of a whole video.

One identity and one focal length hold for all frames; each frame has its rotations, place and expression. First some
frames, evenly over the video, say who it is: place and size, then everything, then everything with the outline, whose
points are matched anew as the fit comes closer. Then all frames are fitted with that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from partnerface_ns.tracking.fit_head import FitHead
from partnerface_ns.tracking.observations import Fit, Observations
from partnerface_ns.tracking.problem import Problem
from partnerface_ns.tracking.unknowns import ONCE, RATES

_OUTLINE_SIGMA = 2.0
"""Pixels at 512: how well the outline is known in the end; less well while the surface is far from it."""
# The jaw comes before the expression, which could open the mouth as well.
_PLACE = ("rotation", "neck", "jaw", "place", "log_depth")


@dataclass(frozen=True)
class Schedule:
    """How long to look for what."""

    key_frames: int = 120
    """Frames that say who it is."""
    place: int = 60
    """Steps for place and size."""
    key: int = 280
    """Steps for everything in the key frames."""
    all: int = 130
    """Steps for everything in all frames."""
    outline: int = 40
    """Steps after each matching of the outline."""
    key_gates: tuple[float, ...] = (40.0, 25.0, 15.0, 12.0)
    """Largest distance of outline and surface at each matching, pixels at 512."""
    all_gates: tuple[float, ...] = (15.0, 12.0, 10.0)

    @property
    def total(self) -> int:
        return 2 * self.place + self.key + self.all + self.outline * (len(self.key_gates) + len(self.all_gates))


def fit_track(
    head: FitHead,
    seen: Observations,
    spread: Float[np.ndarray, "landmarks"],
    on_step: Callable[[], None] = lambda: None,
    schedule: Schedule | None = None,
    fixed_focal: bool = False,
    device: torch.device | str = "cpu",
) -> Fit:
    """Fit identity, focal length and a track to what was seen.

    Args:
        head: the reduced head model.
        seen: landmarks and outlines.
        spread: uncertainty of the landmarks' places on the head, metres.
        on_step: called after every step, for a progress bar.
        schedule: how many steps of what.
        fixed_focal: whether the expected focal length is known.
        device: where to compute; the result is on the CPU.
    """
    schedule = schedule or Schedule()
    free = tuple(name for name in RATES if not (fixed_focal and name == "log_focal"))
    # Landmarks say nothing about hair and shoulders; the outline does.
    inner = tuple(name for name in free if name not in ("displacement", "landmark_bias"))
    key = Problem(head, _some(seen, schedule.key_frames), spread, None, device)
    key.minimise(schedule.place, _PLACE, on_step=on_step)
    key.minimise(schedule.key, inner, on_step=on_step)
    _fit_outline(key, schedule.key_gates, schedule.outline, free, on_step)

    whole = Problem(head, seen, spread, key.unknowns, device)
    whole.minimise(schedule.place, _PLACE, on_step=on_step)
    whole.minimise(schedule.all, tuple(name for name in inner if name not in ONCE), on_step=on_step)
    _fit_outline(whole, schedule.all_gates, schedule.outline, free, on_step)
    return whole.result()


def _some(seen: Observations, num: int) -> Observations:
    """At most so many frames, evenly over the video."""
    total = len(seen.times)
    return seen[torch.linspace(0, total - 1, min(num, total)).round().long()]


def _fit_outline(
    problem: Problem, gates: tuple[float, ...], steps: int, free: tuple[str, ...], on_step: Callable[[], None]
) -> None:
    for round_, gate in enumerate(gates):
        matches = problem.match_outline(gate * problem.seen.px)
        problem.outline_sigma = max(_OUTLINE_SIGMA, gate / 6) * problem.seen.px
        problem.minimise(steps, free, matches, 0.4 * 0.7**round_, on_step)
