"""The input and the result of a fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.flame.state import HeadState

REFERENCE_SIZE = 512
"""Errors and uncertainties are stated in pixels of an image of this side."""


@dataclass(frozen=True)
class Observations:
    """Landmarks and outlines in pixels of the `size` x `size` images."""

    size: int
    landmarks: Float[Tensor, "frames landmarks 3"]
    """x right, y down, and depth (smaller is nearer)."""
    outline: Float[Tensor, "frames points 4"]
    """Points and outward normals; NaN where there is none."""
    principal: Float[Tensor, "frames 2"]
    """Principal point of each image, pixels. It varies because the images are cut out of larger frames."""
    times: Float[Tensor, "frames"]
    """Seconds."""
    focal: float
    """Expected focal length, pixels."""

    @property
    def px(self) -> float:
        """Pixels of an image for one pixel at the reference size."""
        return self.size / REFERENCE_SIZE

    def __getitem__(self, index: slice | Tensor) -> Observations:
        """Select frames."""
        return self._map(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> Observations:
        """Move all tensors to a device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Observations:
        tensors = (f.name for f in fields(self) if isinstance(getattr(self, f.name), Tensor))
        return replace(self, **{name: change(getattr(self, name)) for name in tensors})

    def project(
        self, points: Float[Tensor, "frames points 3"], focal: float | Tensor
    ) -> Float[Tensor, "frames points 2"]:
        """Project world points to pixels; the camera is at the origin with OpenGL axes."""
        flip = torch.tensor([1.0, -1.0], device=points.device)
        return self.principal[:, None] + focal * flip * points[..., :2] / -points[..., 2:]


@dataclass(frozen=True)
class Fit:
    """The fitted head, its states over time, and the focal length."""

    identity: Float[Tensor, "identity"]
    """Identity coefficients of a `FitHead`'s models: those of the full model, then displacements in metres."""
    track: HeadState
    focal: float
    """Pixels."""
    landmark_bias: Float[Tensor, "landmarks 3"]
    """Offset of this person's landmarks from the embedding, rest frame, metres."""
