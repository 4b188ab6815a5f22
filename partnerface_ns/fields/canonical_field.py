"""The canonical radiance field: density and colour at points of the canonical head.

The field does not depend on the head model. Three axis-aligned feature planes at several resolutions are read
bilinearly and concatenated. A density network corrects the logarithm of a prior density,

    sigma = exp(log_density_prior + correction),

and a colour network maps the features, the view direction in the head's frame and the ambient coordinates to colour.
Density comes first, so that colour is computed only for visible samples. Faces are nearly symmetric and one video
rarely shows both sides equally, so the coarse features of mirrored points are shared. In evaluation, the
completion (`completion.py`) is blended into density and colour where no training image shows the person.

Features and layers have the points as their last axis. `grid_sample` gives this order, and on a CPU a transposition
takes as long as a layer. Points are metres in the canonical frame. The smooth, monotone contraction
u = asinh((x - focus) / s) gives the planes more cells at the face than at the shoulders. The method's paper uses a
frequency-encoded network. Planes are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from partnerface_ns.fields.completion import CompletedPoints, Completion
from partnerface_ns.fields.plane_roughness import PlaneRoughness
from partnerface_ns.geometry.encodings import asinh, spherical_harmonics

_CONTRACTION = 0.1
"""s, distance from the focus in metres beyond which cells grow."""
_MAX_LOG_DENSITY = 8.0
_VIEWS_SEEN = 1.6
"""View directions are clamped to this many standard deviations around the mean of training, in evaluation only. In
training the clamp made mouth and eyes of a real person worse."""
_VIEWS_RATE = 0.01
"""Weight of one training step in the running statistics of view directions."""
_ROUGHNESS_SHARE = 32
"""The roughness is estimated on one of this many rows and columns of the planes."""


@dataclass
class CanonicalFieldConfig:
    """Sizes of the canonical field."""

    resolutions: tuple[int, ...] = (96, 256)
    """Cells along each side of the feature planes, coarse to fine."""
    num_channels: int = 8
    """Features of each plane at each resolution."""
    hidden: int = 64
    """Width of the density and the colour network."""
    symmetry: float = 0.5
    """Weight of the mirrored point's coarse features, 0 to 1. A side that the video does not show follows the other."""
    view_dependent: bool = True
    """Whether colour may depend on the view direction in the head's frame."""


class Geometry(NamedTuple):
    """Density at points, and the features behind it."""

    density: Float[Tensor, "points"]
    """Optical density in 1/m."""
    correction: Float[Tensor, "points"]
    """Learned difference between the log density and its prior."""
    features: Float[Tensor, "features points"]
    """From `CanonicalField.features`, for `color`."""


class CanonicalField(nn.Module):
    """Density and colour from feature planes."""

    lower: Tensor
    upper: Tensor
    focus: Tensor
    view_mean: Tensor
    view_square: Tensor

    def __init__(
        self,
        config: CanonicalFieldConfig,
        lower: Float[Tensor, "3"],
        upper: Float[Tensor, "3"],
        num_known: int,
        num_ambient: int,
        focus: Float[Tensor, "3"] | None = None,
    ) -> None:
        """
        Args:
            config: sizes.
            lower: lower corner of the canonical box, metres; points outside have density zero.
            upper: upper corner of the box, metres.
            num_known: number of features of each point that are known before training.
            num_ambient: number of ambient coordinates.
            focus: point around which cells are smallest, metres. The planes are mirrored in x, so its x is that of the
                centre of the box. None takes this centre.
        """
        super().__init__()
        self.config, self.num_ambient = config, num_ambient
        self.register_buffer("lower", lower.clone())
        self.register_buffer("upper", upper.clone())
        center = (lower + upper) / 2
        self.register_buffer("focus", center if focus is None else torch.cat([center[:1], focus[1:]]))
        self.planes = nn.ParameterList([0.01 * torch.randn(3, config.num_channels, r, r) for r in config.resolutions])
        self.completion = Completion()
        self._num_features = num_features = 3 * config.num_channels * len(config.resolutions)
        hidden, output = nn.Linear(num_features + 3 + num_known, config.hidden), nn.Linear(config.hidden, 1)
        self.density_network = nn.Sequential(hidden, nn.ReLU(), output)
        size_color = num_features + num_ambient + (8 if config.view_dependent else 0)
        self.color_network = nn.Sequential(
            nn.Linear(size_color, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, 3),
        )
        # Mean and mean square of the view directions' tangents x/z and y/z. Before training, any direction is seen.
        self.register_buffer("view_mean", torch.zeros(2))
        self.register_buffer("view_square", torch.ones(2))
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)

    def geometry(
        self,
        points: Float[Tensor, "points 3"],
        known: Float[Tensor, "points known"],
        log_density_prior: Float[Tensor, "points"],
    ) -> Geometry:
        """Density at points; in evaluation, completed.

        The inputs of the density network are the planes' features, the position and the known features. Where training
        saw nothing, the planes are empty and density follows from position and known features.

        Args:
            points: canonical frame, metres.
            known: features of order one that are known before training.
            log_density_prior: logarithm of the density in 1/m that is expected before training.
        """
        contracted = self.contract(points)
        features = self.features(contracted)
        of_planes, completed = self._split(features)
        inputs = torch.cat([of_planes, contracted.T.to(features.dtype), known.T.to(features.dtype)])
        correction = _run(self.density_network, inputs)[0].float()
        log_density = (correction + log_density_prior).clamp(max=_MAX_LOG_DENSITY)
        if completed is not None:
            log_density = completed.complete_log_density(log_density)
        inside = ((points > self.lower) & (points < self.upper)).all(-1)
        return Geometry(torch.exp(log_density) * inside, correction, features)

    def color(
        self,
        features: Float[Tensor, "features points"],
        directions: Float[Tensor, "points 3"],
        ambient: Float[Tensor, "points ambient"],
    ) -> Float[Tensor, "points 3"]:
        """Colour in [0, 1]; in evaluation, completed.

        Args:
            features: of the points, from `geometry` or `features`.
            directions: unit view directions in the head's frame, from camera to point.
            ambient: coordinates of the expression-dependent appearance.
        """
        of_planes, completed = self._split(features)
        parts = [of_planes, ambient.T.to(features.dtype)]
        if self.config.view_dependent:
            directions = directions if self.training else self._clamp_to_seen(directions)
            parts.append(spherical_harmonics(directions).T.to(features.dtype))
        color = _run(self.color_network, torch.cat(parts)).T.float().sigmoid()
        return color if completed is None else completed.complete_color(color)

    @torch.no_grad()
    def update_view_statistics(self, directions: Float[Tensor, "points 3"], weights: Float[Tensor, "points 1"]) -> None:
        """Add a training step's view directions, weighted by visibility, if they are finite."""
        tangents, share = _tangents(directions), weights / weights.sum().clamp(min=1e-6)
        mean, square = (share * tangents).sum(0), (share * tangents.square()).sum(0)
        rate = torch.where((mean + square).isfinite().all(), _VIEWS_RATE, 0.0)
        self.view_mean.lerp_(mean.nan_to_num(), rate)
        self.view_square.lerp_(square.nan_to_num(), rate)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        # In older avatars cells are smallest at the centre of the box.
        corners = [state_dict.get(prefix + name, getattr(self, name)) for name in ("lower", "upper")]
        state_dict.setdefault(f"{prefix}focus", (corners[0] + corners[1]) / 2)
        # Older avatars have no view statistics: every direction counts as seen.
        for name in ("view_mean", "view_square"):
            state_dict.setdefault(prefix + name, getattr(self, name))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _clamp_to_seen(self, directions: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Unit directions, clamped to the range that training saw. Beyond it the colour network is unconstrained."""
        reach = _VIEWS_SEEN * (self.view_square - self.view_mean.square()).clamp(min=0).sqrt()
        tangents = _tangents(directions).clamp(self.view_mean - reach, self.view_mean + reach)
        return F.normalize(F.pad(tangents, (0, 1), value=-1.0), dim=-1)

    def roughness(self) -> Float[Tensor, ""]:
        """Mean squared difference of the planes' neighbouring cells, summed over rows, columns and resolutions.

        It is estimated on random rows and columns, which is faster than all of them.
        """
        roughness = []
        for planes in self.planes:
            num = planes.shape[-1] - 1
            size = (-(-num // _ROUGHNESS_SHARE),)
            rows, columns = (torch.randint(num, size, device=planes.device) for _ in range(2))
            roughness.append(PlaneRoughness.apply(planes, rows, columns))
        return torch.stack(roughness).sum()

    def _add_mirrored(self, planes: Float[Tensor, "3 channels rows columns"]) -> Tensor:
        """Coarse planes plus the weighted mirrored planes; x runs along the columns of xy and xz."""
        mirrored = torch.stack([planes[0].flip(-1), planes[1], planes[2].flip(-1)])
        return planes + self.config.symmetry * mirrored

    def contract(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Canonical points in metres to contracted points in [-1, 1], with more cells near the focus."""
        low, high = self._contracted_box()
        return 2 * (asinh((points - self.focus) / _CONTRACTION) - low) / (high - low) - 1

    def uncontract(self, contracted: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Contracted points to canonical points in metres: the inverse of `contract`."""
        low, high = self._contracted_box()
        return self.focus + _CONTRACTION * torch.sinh(low + (contracted + 1) / 2 * (high - low))

    def _contracted_box(self) -> tuple[Tensor, Tensor]:
        """Corners of the contracted box before scaling."""
        low, high = (asinh((corner - self.focus) / _CONTRACTION) for corner in (self.lower, self.upper))
        return low, high

    def features(self, contracted: Float[Tensor, "points 3"]) -> Float[Tensor, "features points"]:
        """Features of all planes, coarse to fine, at contracted points; in evaluation also the completion's values."""
        planes = [self._add_mirrored(self.planes[0]), *self.planes[1:]]
        # On a CPU, the backward pass of grid_sample at a NaN position writes outside the planes.
        contracted = contracted.nan_to_num()
        # The planes xy, yz and xz.
        grid = torch.stack([contracted[:, :2], contracted[:, 1:], contracted[:, ::2]])[:, None]
        read = [F.grid_sample(p, grid, align_corners=True, padding_mode="border")[:, :, 0] for p in planes]
        completion = [] if self.training else [self.completion.at(contracted)]
        return torch.cat([r.flatten(0, 1) for r in read] + completion)

    def _split(self, features: Float[Tensor, "features points"]) -> tuple[Tensor, CompletedPoints | None]:
        """Features of the planes, and the completion in evaluation."""
        if self.training:
            return features, None
        return features[: self._num_features], CompletedPoints.of(features[self._num_features :])


def _run(network: nn.Sequential, inputs: Float[Tensor, "channels points"]) -> Float[Tensor, "out points"]:
    """Apply linear layers with rectifiers between them to points along the last axis."""
    for layer in network:
        if isinstance(layer, nn.Linear):
            inputs = torch.addmm(layer.bias[:, None], layer.weight, inputs)
        else:
            inputs = F.relu(inputs, inplace=True)
    return inputs


def _tangents(directions: Float[Tensor, "points 3"]) -> Float[Tensor, "points 2"]:
    """Tangents x/z and y/z of directions, clamped for directions from the side and from behind."""
    return directions[:, :2] / (-directions[:, 2:]).clamp(min=0.1)
