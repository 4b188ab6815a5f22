"""The canonical radiance field: density and colour at points of the canonical head.

Three axis-aligned feature planes at several resolutions are read bilinearly and concatenated (summed or multiplied
planes trained worse); a small network gives density, a second one colour from the first one's features, the view
direction in the head's frame and the ambient coordinates of the deformation. Knows nothing of the head model.

Input is in the canonical frame, metres. Points first pass a smooth, monotone spacing u = asinh((x - centre) / s), which gives
the planes more cells at the face than at the shoulders. The method's paper uses a frequency-encoded network; planes
reach in minutes what that reaches in hours on a CPU, so planes are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from partnerface_ns.geometry.encodings import spherical_harmonics

_SPACING = 0.1
"""Metres from the centre at which cells begin to grow."""
_MAX_LOG_DENSITY = 12.0
_PLANE_AXES = ((0, 1), (1, 2), (0, 2))


@dataclass
class CanonicalFieldConfig:
    """Sizes of the canonical field."""

    resolutions: tuple[int, ...] = (64, 128, 256)
    """Cells a side of the feature planes, coarse to fine."""
    num_channels: int = 8
    """Features of each plane at each resolution."""
    hidden: int = 64
    """Width of the density and the colour network."""
    num_features: int = 15
    """Features that the density network hands to the colour network."""
    view_dependent: bool = True
    """Whether colour may depend on the view direction in the head's frame."""


class FieldSample(NamedTuple):
    """The field at points."""

    density: Float[Tensor, "points"]
    """Optical density in 1/m."""
    rgb: Float[Tensor, "points 3"]


class CanonicalField(nn.Module):
    """Density and colour from feature planes."""

    def __init__(
        self, config: CanonicalFieldConfig, lower: Float[Tensor, "3"], upper: Float[Tensor, "3"], num_ambient: int
    ) -> None:
        """
        Args:
            lower: lower corner of the canonical box, metres; points outside have density zero.
            upper: its upper corner.
            num_ambient: ambient coordinates that come with each point.
        """
        super().__init__()
        self.config = config
        self.register_buffer("lower", lower.clone())
        self.register_buffer("upper", upper.clone())
        self.planes = nn.ParameterList(
            [0.01 * torch.randn(3, config.num_channels, r, r) for r in config.resolutions]
        )
        size_in = 3 * config.num_channels * len(config.resolutions)
        self.density_network = nn.Sequential(
            nn.Linear(size_in, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1 + config.num_features)
        )
        size_color = config.num_features + num_ambient + (8 if config.view_dependent else 0)
        self.color_network = nn.Sequential(
            nn.Linear(size_color, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 3)
        )

    def forward(
        self,
        points: Float[Tensor, "points 3"],
        directions: Float[Tensor, "points 3"],
        ambient: Float[Tensor, "points ambient"],
        log_density_prior: Float[Tensor, "points"],
    ) -> FieldSample:
        """Density and colour.

        Args:
            points: canonical frame, metres.
            directions: unit view directions in the head's frame, from camera to point.
            ambient: coordinates of the expression-dependent appearance.
            log_density_prior: logarithm of the density in 1/m that is expected before training.
        """
        hidden = self.density_network(self._features(self._spaced(points)))
        inside = ((points > self.lower) & (points < self.upper)).all(-1)
        # Density spans decades from air to skin, so the network corrects its logarithm.
        density = torch.exp((hidden[:, 0].float() + log_density_prior).clamp(max=_MAX_LOG_DENSITY)) * inside
        parts = [hidden[:, 1:], ambient.to(hidden.dtype)]
        if self.config.view_dependent:
            parts.append(spherical_harmonics(directions).to(hidden.dtype))
        return FieldSample(density, self.color_network(torch.cat(parts, -1)).float().sigmoid())

    def _spaced(self, points: Tensor) -> Float[Tensor, "points 3"]:
        """Points in [-1, 1], with more room near the centre of the box's face."""
        center = (self.lower + self.upper) / 2
        warp = lambda x: torch.asinh((x - center) / _SPACING)  # noqa: E731
        low, high = warp(self.lower), warp(self.upper)
        return 2 * (warp(points) - low) / (high - low) - 1

    def _features(self, spaced: Tensor) -> Float[Tensor, "points features"]:
        grid = torch.stack([spaced[:, list(axes)] for axes in _PLANE_AXES])[:, None]
        read = [F.grid_sample(p, grid, align_corners=True, padding_mode="border")[:, :, 0] for p in self.planes]
        return torch.cat([r.flatten(0, 1) for r in read]).T

    def total_variation(self) -> Float[Tensor, ""]:
        """Mean squared difference of neighbouring plane cells, finest planes."""
        plane = self.planes[-1]
        return (plane[..., 1:, :] - plane[..., :-1, :]).square().mean() + (
            plane[..., 1:] - plane[..., :-1]
        ).square().mean()
