"""What is computed on volumes over the canonical head and then read: an avatar's density, and a moment's deformation.

Density is baked once, when an avatar is prepared for driving. For one moment a deformation is a smooth function of the
canonical place alone, so where rays have many samples it is computed on far fewer nodes than there are samples.

Nodes are even in the canonical field's own spacing; volumes have axes (z, y, x). Points are metres, canonical frame.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.common.precision import autocast_bfloat16
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.volumes import read_volume
from partnerface_ns.warp.inverse_skinning import CanonicalPoints

_POOLED = 4
"""Nodes of the density volume, along a side, whose mean is one coarse value; half as many for a fine one."""


class BakedDensity:
    """The field's density in 1/m; 0 where training found nothing."""

    def __init__(self, avatar: Avatar, resolution: int) -> None:
        """
        Args:
            resolution: nodes a side, a multiple of 4.
        """
        self.resolution = resolution
        density = self._computed(avatar, resolution)
        # Between nodes the logarithm is nearer to the field's than density itself.
        self._log_density = torch.log1p(density)
        self._means = [F.avg_pool3d(density, kernel) for kernel in (_POOLED, _POOLED // 2)]

    @staticmethod
    @torch.no_grad()
    def _computed(avatar: Avatar, num: int) -> Float[Tensor, "1 z y x"]:
        field = avatar.field
        even = torch.linspace(-1, 1, num, device=field.lower.device)
        y, x = torch.meshgrid(even, even, indexing="ij")
        volume = x.new_zeros(num, num * num)
        for slab, z in zip(volume, even, strict=True):
            points = field.places(torch.stack([x, y, z.expand_as(x)], -1).view(-1, 3))
            dense = (avatar.grid.probe(points) > 0).nonzero()[:, 0]
            if len(dense):
                slab[dense] = avatar.density(points[dense])
        return volume.view(1, num, num, num)

    def at(self, spaced: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
        """Density at places in the field's spacing."""
        return torch.expm1(read_volume(self._log_density, spaced.reshape(-1, 3), "border")[0]).view(spaced.shape[:-1])

    def mean_around(self, level: int, spaced: Float[Tensor, "points 3"]) -> Float[Tensor, "points"]:
        """Mean density around places in the field's spacing: coarse at level 0, fine at level 1."""
        # The mean of a few nodes stands in their middle, so the volume of means ends before the first and last node.
        nodes, means = self.resolution, self._means[level].shape[-1]
        at = spaced * ((nodes - 1) / (nodes - nodes // means))
        return read_volume(self._means[level], at, "border")[0]


class BakedDeformation:
    """Reads the deformation of one moment after the other from the nodes of a box."""

    def __init__(self, avatar: Avatar, lower: Float[Tensor, "3"], upper: Float[Tensor, "3"], spacing: float) -> None:
        """
        Args:
            avatar: must not be trained afterwards.
            lower: lower corner of the box.
            upper: its upper corner.
            spacing: metres between nodes, about.
        """
        self._avatar = avatar
        self._lower, self._upper = avatar.field.spaced(torch.stack([lower, upper]))
        x, y, z = (max(2, math.ceil(side / spacing) + 1) for side in (upper - lower).tolist())
        self._shape = (z, y, x)
        axes = [torch.linspace(-1, 1, num, device=lower.device) for num in self._shape]
        at = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1).view(-1, 3)
        self._spaced = self._lower + (at + 1) / 2 * (self._upper - self._lower)
        points = avatar.field.places(self._spaced)
        self._nodes = CanonicalPoints(points, avatar.skinning.space.torso_share(points))

    def at_moment(self, state: HeadState) -> Float[Tensor, "3 z y x"]:
        """What one moment adds to the nodes' places in the field's spacing; `state` has batch axes (1,)."""
        frame = torch.zeros(len(self._spaced), dtype=torch.long, device=self._spaced.device)
        with autocast_bfloat16(self._spaced.device, self._avatar.config.bfloat16):
            moved = self._avatar.warp.deform(self._nodes, frame, state)
        return (self._avatar.field.spaced(moved.points) - self._spaced).T.reshape(3, *self._shape)

    def holds(self, spaced: Float[Tensor, "*batch 3"]) -> Bool[Tensor, "*batch"]:
        """Whether places in the field's spacing lie in the box."""
        return ((spaced > self._lower) & (spaced < self._upper)).all(-1)

    def moved(self, volume: Float[Tensor, "3 z y x"], spaced: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Places in the field's spacing after the deformation of a moment; beyond the box its border's counts."""
        at = 2 * (spaced - self._lower) / (self._upper - self._lower) - 1
        return spaced + read_volume(volume, at, "border").T
