"""Nodes of a regular grid around the head, at which smooth functions of the canonical point are computed.

There are far fewer nodes than samples of a training step or an image. Values are interpolated trilinearly between
nodes, and are zero at nodes far from the head. Points are metres in the canonical frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.warp.canonical_space import CanonicalSpace

_MARGIN = 1.5
"""Distance in nodes from the region of possible density up to which nodes have values."""
_DEEP = 0.03
"""Depth below the mesh in metres at which nothing is visible."""


class NodeGrid:
    """The nodes of a regular grid near the head."""

    def __init__(self, space: CanonicalSpace, spacing: float) -> None:
        """
        Args:
            space: tells where density may be, and where the torso is.
            spacing: distance between nodes, metres.
        """
        self.spacing = spacing
        counts = ((space.upper - space.lower) / spacing).ceil().long() + 1
        x, y, z = (torch.arange(int(n), device=space.lower.device) for n in counts)
        index = torch.stack(torch.meshgrid(z, y, x, indexing="ij"), -1).flip(-1).view(-1, 3)
        points = space.lower + spacing * index
        distance, clearance = space.distance_and_clearance(points)
        near = (clearance > -_MARGIN * spacing) & (distance > -_DEEP - _MARGIN * spacing)
        near &= space.torso_share(points) < 1
        first, last = index[near].amin(0), index[near].amax(0)
        index = index[near] - first
        self.lower, sides = space.lower + spacing * first, (last - first + 1).tolist()
        self.shape = (sides[2], sides[1], sides[0])
        """Nodes along z, y and x."""
        self.points: Float[Tensor, "nodes 3"] = points[near]
        """Nodes with values."""
        self._index = (index[:, 2] * self.shape[1] + index[:, 1]) * self.shape[2] + index[:, 0]

    def read(
        self,
        values: Float[Tensor, "frames nodes channels"],
        points: Float[Tensor, "points 3"],
        frame: Int[Tensor, "points"],
    ) -> Float[Tensor, "points channels"]:
        """Interpolate values at points of several frames."""
        num_frames, _, channels = values.shape
        depth, rows, columns = self.shape
        volume = values.new_zeros(num_frames, depth * rows * columns, channels)
        volume = volume.index_copy(1, self._index, values).view(1, num_frames * depth, rows, columns, channels)
        x, y, z = ((points - self.lower) / self.spacing).unbind(-1)
        # The frames are stacked along z. A point within the nodes of its frame never reads those of another.
        z = z.clamp(0, depth - 1) + frame * depth
        sizes = (columns, rows, num_frames * depth)
        at = torch.stack([2 * v / (n - 1) - 1 for v, n in zip((x, y, z), sizes, strict=True)], -1)
        read = F.grid_sample(
            volume.movedim(-1, 1).contiguous(), at.view(1, 1, 1, -1, 3), align_corners=True, padding_mode="border"
        )
        return read[0, :, 0, 0].T
