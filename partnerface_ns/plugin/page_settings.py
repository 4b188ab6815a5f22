"""The settings of a viewer page's controls at one time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MeshStyle:
    """How a mesh is drawn over an image."""

    opacity: float
    """0 to 1."""
    wireframe: bool
    """Whether only edges are drawn."""


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
    mesh: MeshStyle | None = None
    """How the tracked mesh is drawn over the image; None draws none."""
    background: tuple[int, int, int] | None = None
    """Colour behind the person, 0 to 255; None keeps that of the avatar."""
    true_frame: int | None = None
    """Frame of the track whose true image is shown on the left; None shows the avatar alone."""
