"""Volumes over the canonical head: the avatar's density, and the deformation of one frame.

Density is baked once. Within one frame the deformation is a smooth function of the canonical point alone, so it is
computed on far fewer nodes than a view has samples. Nodes are even in the canonical field's contracted coordinates;
volumes have axes (z, y, x). Points are metres in the canonical frame.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.canonical_warp import CanonicalWarp
from partnerface_ns.common.precision import autocast_bfloat16
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.volumes import read_volume
from partnerface_ns.warp.inverse_skinning import CanonicalPoints

_POOLED = 4
"""Nodes along a side of the density volume that are averaged into one coarse value; half as many for a fine value."""


class BakedDensity:
    """Density of the canonical field, 1/m; 0 in cells that the occupancy grid holds empty."""

    def __init__(self, avatar: Avatar, resolution: int) -> None:
        """
        Args:
            avatar: must not change afterwards.
            resolution: nodes along each side, a multiple of 4.
        """
        self.resolution = resolution
        density = self._bake(avatar, resolution)
        # Interpolating the logarithm is more accurate than interpolating density.
        self._log_density = torch.log1p(density)
        self._means = [F.avg_pool3d(density, kernel) for kernel in (_POOLED, _POOLED // 2)]

    @staticmethod
    @torch.no_grad()
    def _bake(avatar: Avatar, num: int) -> Float[Tensor, "1 z y x"]:
        field = avatar.field
        even = torch.linspace(-1, 1, num, device=field.lower.device)
        y, x = torch.meshgrid(even, even, indexing="ij")
        volume = x.new_zeros(num, num * num)
        for slab, z in zip(volume, even, strict=True):
            points = field.uncontract(torch.stack([x, y, z.expand_as(x)], -1).view(-1, 3))
            dense = (avatar.grid.probe(points) > 0).nonzero()[:, 0]
            if len(dense):
                slab[dense] = avatar.density(points[dense])
        return volume.view(1, num, num, num)

    def at(self, contracted: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
        """Density at contracted points."""
        return torch.expm1(read_volume(self._log_density, contracted.reshape(-1, 3), "border")[0]).view(
            contracted.shape[:-1]
        )

    def mean_around(self, level: int, contracted: Float[Tensor, "points 3"]) -> Float[Tensor, "points"]:
        """Mean density around contracted points: coarse at level 0, fine at level 1."""
        # A mean lies at the centre of its nodes, so the volume of means ends before the first and last node.
        nodes, means = self.resolution, self._means[level].shape[-1]
        at = contracted * ((nodes - 1) / (nodes - nodes // means))
        return read_volume(self._means[level], at, "border")[0]


class BakedDeformation:
    """The part deformation on the nodes of a box, computed for one frame at a time."""

    def __init__(self, avatar: Avatar, lower: Float[Tensor, "3"], upper: Float[Tensor, "3"], spacing: float) -> None:
        """
        Args:
            avatar: must not change afterwards.
            lower: lower corner of the box, metres.
            upper: upper corner of the box, metres.
            spacing: approximate distance between nodes, metres.
        """
        self._avatar = avatar
        self._lower, self._upper = avatar.field.contract(torch.stack([lower, upper]))
        x, y, z = (max(2, math.ceil(side / spacing) + 1) for side in (upper - lower).tolist())
        self._shape = (z, y, x)
        axes = [torch.linspace(-1, 1, num, device=lower.device) for num in self._shape]
        at = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1).view(-1, 3)
        self._contracted = self._lower + (at + 1) / 2 * (self._upper - self._lower)
        points = avatar.field.uncontract(self._contracted)
        self._nodes = CanonicalPoints(points, avatar.skinning.space.torso_share(points))

    def offsets(self, warp: CanonicalWarp, state: HeadState) -> Float[Tensor, "3 z y x"]:
        """Offsets of the nodes in contracted coordinates for one head state, batch axes (1,)."""
        frame = torch.zeros(len(self._contracted), dtype=torch.long, device=self._contracted.device)
        with autocast_bfloat16(self._contracted.device, self._avatar.config.bfloat16):
            deformed = warp.deform(self._nodes, frame, state)
        return (self._avatar.field.contract(deformed.points) - self._contracted).T.reshape(3, *self._shape)

    def contains(self, contracted: Float[Tensor, "*batch 3"]) -> Bool[Tensor, "*batch"]:
        """Whether contracted points lie in the box."""
        return ((contracted > self._lower) & (contracted < self._upper)).all(-1)

    def deform(
        self, offsets: Float[Tensor, "3 z y x"], contracted: Float[Tensor, "points 3"]
    ) -> Float[Tensor, "points 3"]:
        """Add offsets to contracted points; points outside the box take the offset of its border."""
        at = 2 * (contracted - self._lower) / (self._upper - self._lower) - 1
        return contracted + read_volume(offsets, at, "border").T
