"""Shares of the pieces of a training step, from the labels that the avatar gives to `torch.profiler`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

STEP = "optimiser and ray batches"
"""Label of a whole step. Its share is the time outside all other pieces."""
PIECES = (
    STEP,
    "posing the head",
    "ray sampling",
    "inverse skinning",
    "part deformation",
    "canonical field",
    "volume rendering",
    "occupancy grid",
    "backward pass",
)
"""Labels of the pieces."""


def shares_of_pieces(events: Iterable[Any]) -> dict[str, float]:
    """Share of each piece in the total time, the largest first. Time in a nested piece counts only for that piece.

    Args:
        events: events of a `torch.profiler.profile`, each with `name`, `thread` and `time_range` (`start` and `end`).
    """
    labelled = sorted(
        (event for event in events if event.name in PIECES),
        key=lambda event: (event.thread, event.time_range.start, -event.time_range.end),
    )
    times: dict[str, float] = defaultdict(float)
    open_events: list[Any] = []
    for event in labelled:
        while open_events and not _contains(open_events[-1], event):
            open_events.pop()
        duration = event.time_range.end - event.time_range.start
        times[event.name] += duration
        if open_events:
            times[open_events[-1].name] -= duration
        open_events.append(event)
    total = sum(times.values())
    return {name: time / total for name, time in sorted(times.items(), key=lambda item: -item[1])}


def _contains(outer: Any, inner: Any) -> bool:
    return outer.thread == inner.thread and inner.time_range.end <= outer.time_range.end
