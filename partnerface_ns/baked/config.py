"""How a prepared avatar trades quality for speed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class BakedConfig:
    """What is traded for speed."""

    resolution: int = 256
    """Nodes a side of the density volume, a multiple of 4."""
    spacing: float = 0.008
    """Metres between nodes of the lattice that samples are interpolated from."""
    num_samples: int = 20
    """Places of a ray at which density is read, an even number."""
    num_colors: int = 4
    """Places of a ray at which colour is computed."""
    deformation_spacing: float = 0.006
    """Metres between the nodes that a moment's deformation is read from at mouth and eyes."""
