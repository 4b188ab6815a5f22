"""Rays of a few frames, whose pixels are asked for."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.geometry.camera import Camera, rays_through_pixels


@dataclass(frozen=True)
class Rays:
    """Rays of a few frames."""

    origins: Float[Tensor, "rays 3"]
    """World frame, metres."""
    directions: Float[Tensor, "rays 3"]
    """World frame, unit length."""
    frame: Int[Tensor, "rays"]
    """Index of each ray's frame on the batch axis of the head states that come with the rays."""

    def split(self, size: int) -> list[Rays]:
        """The rays in turns of at most so many, one turn at least."""
        parts = (getattr(self, f.name).split(size) for f in fields(self))
        return [Rays(*part) for part in zip(*parts, strict=True)]


@dataclass(frozen=True)
class RayBatch:
    """One training step's rays and what they should see."""

    rays: Rays
    """Equally many of each frame, frame by frame."""
    image: Int[Tensor, "frames"]
    """Which images, by their place in the sampler's list, the frames of `rays` are."""
    timesteps: Int[Tensor, "frames"]
    """Theirs in the training capture."""
    pixels: Int[Tensor, "rays 2"]
    """Row and column of each ray's pixel."""
    rgb: Float[Tensor, "rays 3"]
    """True colours in [0, 1]."""
    mask: Float[Tensor, "rays 1"]
    """True foreground in [0, 1]."""


def rays_of_image(camera: Camera, device: torch.device) -> Rays:
    """Rays of one frame through the centres of all pixels, row by row."""
    sides = (torch.arange(side, device=device) for side in (camera.height, camera.width))
    rows, columns = torch.meshgrid(*sides, indexing="ij")
    centers = torch.stack([columns, rows], -1).reshape(-1, 2).float() + 0.5
    T = torch.from_numpy(camera.T_world_camera).float().to(device)
    return Rays(
        *rays_through_pixels(centers, camera.intrinsics, T), torch.zeros(len(centers), dtype=torch.long, device=device)
    )
