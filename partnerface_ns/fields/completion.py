"""Completion: density and colour where no training image shows the person.

The completion is a volume over the canonical box. Each node stores a share in [0, 1], the node's height above the
completed surface in metres, and the colour of that surface. In evaluation only, the canonical field is blended with the
completion by the share. Training does not see the completion, so hidden points cost the field no accuracy. Nodes are
evenly spaced in the field's contracted coordinates, and the volume has axes (z, y, x). `avatar/unseen_surface.py` fills
it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from partnerface_ns.geometry.volumes import read_volume

_NUM_NODES = 64
"""Nodes along each side of the volume."""
_LOG_DENSITY_AT_SURFACE, _SLOPE, _LOG_DENSITY_RANGE = 2.0, 900.0, (-6.0, 5.7)
"""Log density at the surface, its decrease per metre of height, and its lower and upper limits."""


class CompletedPoints(NamedTuple):
    """The completion at points."""

    share: Float[Tensor, "points"]
    """Weight of the completion, 0 to 1; the field has the rest."""
    log_density: Float[Tensor, "points"]
    """Logarithm of the density in 1/m."""
    color: Float[Tensor, "points 3"]

    @staticmethod
    def of(values: Float[Tensor, "5 points"]) -> CompletedPoints:
        """Convert values read from the volume. The height becomes log density."""
        share, height, *color = values.float()
        log_density = (_LOG_DENSITY_AT_SURFACE - _SLOPE * height).clamp(*_LOG_DENSITY_RANGE)
        return CompletedPoints(share, log_density, torch.stack(color, -1))

    def complete_log_density(self, of_field: Float[Tensor, "points"]) -> Float[Tensor, "points"]:
        """The field's log density blended with the completion's; -inf stays, because no density may be there."""
        blended = torch.lerp(of_field.clamp(min=_LOG_DENSITY_RANGE[0]), self.log_density, self.share)
        return torch.where((self.share > 0) & (of_field > -torch.inf), blended, of_field)

    def complete_color(self, of_field: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """The field's colour blended with the completion's."""
        return torch.lerp(of_field, self.color, self.share[:, None])


class Completion(nn.Module):
    """The volume. It has share 0 everywhere until it is filled."""

    volume: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("volume", torch.zeros(5, *[_NUM_NODES] * 3))

    def nodes(self) -> Float[Tensor, "nodes 3"]:
        """Contracted positions of all nodes."""
        even = torch.linspace(-1, 1, _NUM_NODES, device=self.volume.device)
        z, y, x = torch.meshgrid(even, even, even, indexing="ij")
        return torch.stack([x, y, z], -1).view(-1, 3)

    def fill(self, index: Int[Tensor, "filled"], values: Float[Tensor, "filled 5"]) -> None:
        """Set share, height in metres, and colour of some nodes. All others get share 0.

        Args:
            index: of the nodes, in the order of `nodes`.
            values: their values.
        """
        self.volume.zero_()
        self.volume.view(5, -1)[:, index] = values.T

    def at(self, contracted: Float[Tensor, "points 3"]) -> Float[Tensor, "5 points"]:
        """Interpolated values at contracted points, for `CompletedPoints.of`."""
        return read_volume(self.volume, contracted, "border")

    def density(self, contracted: Float[Tensor, "points 3"]) -> Float[Tensor, "points"]:
        """Density of the completion alone at contracted points, weighted by its share, 1/m."""
        points = CompletedPoints.of(self.at(contracted))
        return points.share * points.log_density.exp()

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        # Avatars of earlier versions have no such volume.
        state_dict.setdefault(f"{prefix}volume", torch.zeros_like(self.volume))
        super()._load_from_state_dict(state_dict, prefix, *args)
