"""Settings of the baked avatar: speed against quality."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class BakedConfig:
    """Resolution of baked images. Finer settings are slower and more accurate."""

    resolution: int = 256
    """Nodes along each side of the density volume, a multiple of 4."""
    spacing: float = 0.008
    """Metres between nodes of the lattice from which samples are interpolated."""
    num_samples: int = 20
    """Samples of a ray at which density is read, an even number."""
    num_colors: int = 4
    """Samples of a ray at which colour is computed."""
    deformation_spacing: float = 0.006
    """Metres between nodes of the deformation volume at mouth and eyes."""
    interpolated_contrast: float = 0.06
    """Contrast up to which pixels of an image are interpolated on a CPU; 0 renders all of them."""
