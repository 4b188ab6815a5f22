"""The canonical radiance field: density and colour at points of the canonical head. Knows nothing of the head model.

Three axis-aligned feature planes at several resolutions are read bilinearly and concatenated (summed or multiplied
planes trained worse). Density comes first, so that colour is asked only where it can be seen. A small network corrects
the logarithm of an expected density

    sigma = exp(log_density_prior + correction),

from the features, the place and what else is known of it; a second one gives colour from the features, the view
direction in the head's frame and the deformation's ambient coordinates. Faces are nearly symmetric, and one video
seldom shows both sides as well: coarse features of mirrored places are shared. Input is in the canonical frame, metres.
Points first pass a smooth, monotone spacing u = asinh((x - centre) / s), which gives the planes more cells at the face
than at the shoulders. The method's paper uses a frequency-encoded network; planes reach in minutes what that reaches in
hours on a CPU, so planes are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from partnerface_ns.geometry.encodings import asinh, spherical_harmonics

_SPACING = 0.1
"""Metres from the centre at which cells begin to grow."""
_MAX_LOG_DENSITY = 8.0
_VIEWS_SEEN = 1.6
"""Standard deviations of the view directions in training beyond which colour no longer follows the direction, once
trained: held back in training too, a real person's mouth and eyes came out worse."""
_VIEWS_RATE = 0.01
"""Share of a training step in what is remembered of them."""
_ROUGHNESS_SHARE = 8
"""One in so many rows and columns of the planes is looked at for their roughness."""


@dataclass
class CanonicalFieldConfig:
    """Sizes of the canonical field."""

    resolutions: tuple[int, ...] = (96, 256)
    """Cells a side of the feature planes, coarse to fine."""
    num_channels: int = 8
    """Features of each plane at each resolution."""
    hidden: int = 64
    """Width of the density and the colour network."""
    symmetry: float = 0.5
    """Share of the other side's coarse features in a point's own: what only one side showed is guessed for the
    other."""
    view_dependent: bool = True
    """Whether colour may depend on the view direction in the head's frame."""


class Geometry(NamedTuple):
    """What density is at points, and what it was made from."""

    density: Float[Tensor, "points"]
    """Optical density in 1/m."""
    correction: Float[Tensor, "points"]
    """Learned difference of its logarithm from the expected one."""
    features: Float[Tensor, "points features"]
    """Of the planes, for `color`."""


class CanonicalField(nn.Module):
    """Density and colour from feature planes."""

    def __init__(
        self,
        config: CanonicalFieldConfig,
        lower: Float[Tensor, "3"],
        upper: Float[Tensor, "3"],
        num_known: int,
        num_ambient: int,
    ) -> None:
        """
        Args:
            lower: lower corner of the canonical box, metres; points outside have density zero.
            upper: its upper corner.
            num_known: numbers that are known of each point besides its place.
            num_ambient: ambient coordinates that come with each point.
        """
        super().__init__()
        self.config, self.num_ambient = config, num_ambient
        self.register_buffer("lower", lower.clone())
        self.register_buffer("upper", upper.clone())
        self.planes = nn.ParameterList([0.01 * torch.randn(3, config.num_channels, r, r) for r in config.resolutions])
        num_features = 3 * config.num_channels * len(config.resolutions)
        self.density_network = nn.Sequential(
            nn.Linear(num_features + 3 + num_known, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1)
        )
        size_color = num_features + num_ambient + (8 if config.view_dependent else 0)
        self.color_network = nn.Sequential(
            nn.Linear(size_color, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, 3),
        )
        # Of the directions' tangents x/z and y/z: mean, and mean square, which says "anywhere" before training.
        self.register_buffer("view_mean", torch.zeros(2))
        self.register_buffer("view_square", torch.ones(2))
        nn.init.zeros_(self.density_network[-1].weight)
        nn.init.zeros_(self.density_network[-1].bias)

    def geometry(
        self,
        points: Float[Tensor, "points 3"],
        known: Float[Tensor, "points known"],
        log_density_prior: Float[Tensor, "points"],
    ) -> Geometry:
        """Density.

        Its network sees the place itself and what is known of it besides the planes' features: where training saw
        nothing, planes say nothing, and density follows from the like of what was seen.

        Args:
            points: canonical frame, metres.
            known: numbers of about one, known before training.
            log_density_prior: logarithm of the density in 1/m that is expected before training.
        """
        spaced = self.spaced(points)
        features = self.features(spaced)
        seen = torch.cat([features, spaced.to(features.dtype), known.to(features.dtype)], -1)
        correction = self.density_network(seen)[:, 0].float()
        inside = ((points > self.lower) & (points < self.upper)).all(-1)
        density = torch.exp((correction + log_density_prior).clamp(max=_MAX_LOG_DENSITY)) * inside
        return Geometry(density, correction, features)

    def color(
        self,
        features: Float[Tensor, "points features"],
        directions: Float[Tensor, "points 3"],
        ambient: Float[Tensor, "points ambient"],
    ) -> Float[Tensor, "points 3"]:
        """Colour in [0, 1].

        Args:
            features: of the points, from `geometry`.
            directions: unit view directions in the head's frame, from camera to point.
            ambient: coordinates of the expression-dependent appearance.
        """
        parts = [features, ambient.to(features.dtype)]
        if self.config.view_dependent:
            directions = directions if self.training else self._as_seen(directions)
            parts.append(spherical_harmonics(directions).to(features.dtype))
        return self.color_network(torch.cat(parts, -1)).float().sigmoid()

    @torch.no_grad()
    def remember_views(self, directions: Float[Tensor, "points 3"], weights: Float[Tensor, "points 1"]) -> None:
        """Take in from where a training step looked at points, and how much it saw of each, if all of it is finite."""
        tangents, share = _tangents(directions), weights / weights.sum().clamp(min=1e-6)
        mean, square = (share * tangents).sum(0), (share * tangents.square()).sum(0)
        rate = torch.where((mean + square).isfinite().all(), _VIEWS_RATE, 0.0)
        self.view_mean.lerp_(mean.nan_to_num(), rate)
        self.view_square.lerp_(square.nan_to_num(), rate)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        # An avatar made before views were remembered follows them everywhere.
        for name in ("view_mean", "view_square"):
            state_dict.setdefault(prefix + name, getattr(self, name))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _as_seen(self, directions: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Unit directions, brought back to those that training mostly saw: beyond them a network may say anything."""
        reach = _VIEWS_SEEN * (self.view_square - self.view_mean.square()).clamp(min=0).sqrt()
        tangents = _tangents(directions).clamp(self.view_mean - reach, self.view_mean + reach)
        return F.normalize(F.pad(tangents, (0, 1), value=-1.0), dim=-1)

    def roughness(self) -> Float[Tensor, ""]:
        """Mean squared difference of the planes' neighbouring cells, added up over rows, columns and resolutions.

        Estimated from random rows and columns: all of them would take a tenth of a training step.
        """
        steps = []
        for planes in self.planes:
            num = planes.shape[-1] - 1
            for axis in (-2, -1):
                at = torch.randint(num, (-(-num // _ROUGHNESS_SHARE),), device=planes.device)
                steps.append(planes.index_select(axis, at + 1) - planes.index_select(axis, at))
        return torch.stack([step.square().mean() for step in steps]).sum()

    def _shared_across_sides(self, planes: Float[Tensor, "3 channels rows columns"]) -> Tensor:
        """Coarse planes to which the other side of the face adds its share; x runs along the columns of xy and xz."""
        mirrored = torch.stack([planes[0].flip(-1), planes[1], planes[2].flip(-1)])
        return planes + self.config.symmetry * mirrored

    def spaced(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Points of the canonical box in [-1, 1], with more room near its centre."""
        center, low, high = self._spacing()
        return 2 * (asinh((points - center) / _SPACING) - low) / (high - low) - 1

    def places(self, spaced: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Canonical points, metres: `spaced` the other way."""
        center, low, high = self._spacing()
        return center + _SPACING * torch.sinh(low + (spaced + 1) / 2 * (high - low))

    def _spacing(self) -> tuple[Tensor, Tensor, Tensor]:
        """The box's centre, and its corners in units of the spacing."""
        center = (self.lower + self.upper) / 2
        return center, *(asinh((corner - center) / _SPACING) for corner in (self.lower, self.upper))

    def features(self, spaced: Float[Tensor, "points 3"]) -> Float[Tensor, "points features"]:
        """Features of all planes, coarse to fine, at points from `spaced`."""
        planes = [self._shared_across_sides(self.planes[0]), *self.planes[1:]]
        # On a CPU, the backward pass of a place that is NaN writes outside the planes.
        spaced = spaced.nan_to_num()
        # The planes xy, yz and xz.
        grid = torch.stack([spaced[:, :2], spaced[:, 1:], spaced[:, ::2]])[:, None]
        read = [F.grid_sample(p, grid, align_corners=True, padding_mode="border")[:, :, 0] for p in planes]
        return torch.cat([r.flatten(0, 1) for r in read]).T


def _tangents(directions: Float[Tensor, "points 3"]) -> Float[Tensor, "points 2"]:
    """Where directions from the front meet a plane one unit ahead; those from the side and from behind, far off."""
    return directions[:, :2] / (-directions[:, 2:]).clamp(min=0.1)
