"""Rays, grouped by frame from the sampler to the pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.geometry.camera import Camera, rays_through_pixels


@dataclass(frozen=True)
class Rays:
    """Rays of a few frames, equally many of each. Frame i belongs to head state i of the states passed along."""

    origins: Float[Tensor, "frames rays 3"]
    """World frame, metres."""
    directions: Float[Tensor, "frames rays 3"]
    """World frame, unit length."""

    def split(self, size: int) -> list[Rays]:
        """Chunks of at most `size` rays over all frames together, at least one chunk."""
        num_frames = self.origins.shape[0]
        per_frame = max(1, size // max(1, num_frames))
        chunks = zip(self.origins.split(per_frame, 1), self.directions.split(per_frame, 1), strict=True)
        return [Rays(*chunk) for chunk in chunks]


@dataclass(frozen=True)
class RayBatch:
    """Rays of one training step and their ground truth."""

    rays: Rays
    image_index: Int[Tensor, "frames"]
    """Index of each frame in the sampler's training images."""
    timesteps: Int[Tensor, "frames"]
    """Timestep of each frame in the training capture."""
    pixels: Int[Tensor, "frames rays 2"]
    """Row and column of each ray's pixel."""
    rgb: Float[Tensor, "frames rays 3"]
    """True colours in [0, 1]."""
    mask: Float[Tensor, "frames rays 1"]
    """True foreground in [0, 1]."""

    def share(self, index: int, count: int) -> RayBatch:
        """Every `count`-th ray of each frame, from `index` on: one of `count` shares, alike in what they see."""
        part = slice(index, None, count)
        return replace(
            self,
            rays=Rays(self.rays.origins[:, part], self.rays.directions[:, part]),
            pixels=self.pixels[:, part],
            rgb=self.rgb[:, part],
            mask=self.mask[:, part],
        )


def rays_of_image(camera: Camera, device: torch.device) -> Rays:
    """Rays of one frame through the centres of all pixels, row by row."""
    sides = (torch.arange(side, device=device) for side in (camera.height, camera.width))
    rows, columns = torch.meshgrid(*sides, indexing="ij")
    centers = torch.stack([columns, rows], -1).reshape(-1, 2).float() + 0.5
    T = torch.from_numpy(camera.T_world_camera).float().to(device)
    origins, directions = rays_through_pixels(centers, camera.intrinsics, T)
    return Rays(origins[None], directions[None])
