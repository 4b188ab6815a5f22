"""The settings of a viewer page's controls at one time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PageSettings:
    """Which head state a page shows, and how."""

    timestep: int | None = None
    """Frame of the track; None shows the neutral face."""
    channels: tuple[tuple[str, float], ...] | None = None
    """Values of the expression sliders, which take the place of `timestep`; None shows the tracked motion."""
    part: int | None = None
    """Index of the selected part; None shows all parts alike."""
    muted: bool = False
    """Whether the selected part does not deform. Otherwise the rest is grey."""
    mesh: bool = False
    """Whether the tracked mesh is drawn over the image."""
