"""What was seen in the frames that are fitted, and what is looked for: the types that the fit's files share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.flame.state import HeadState

REFERENCE_SIZE = 512
"""Errors are given, and uncertainties stated, in pixels of an image of this side."""


@dataclass(frozen=True)
class Observations:
    """Landmarks and outlines, in pixels of the `size` x `size` images."""

    size: int
    landmarks: Float[Tensor, "frames landmarks 3"]
    """x right, y down, and depth (smaller is nearer)."""
    outline: Float[Tensor, "frames points 4"]
    """Points and outward normals; NaN where there are none."""
    principal: Float[Tensor, "frames 2"]
    """Where the camera's axis meets each image, pixels (images are cut out of larger frames)."""
    times: Float[Tensor, "frames"]
    """Seconds."""
    focal: float
    """Expected focal length, pixels."""

    @property
    def px(self) -> float:
        """Pixels of an image for one pixel at the reference size."""
        return self.size / REFERENCE_SIZE

    def __getitem__(self, index: slice | Tensor) -> Observations:
        """Only some frames."""
        return self._map(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> Observations:
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Observations:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Observations(**{k: change(v) if isinstance(v, Tensor) else v for k, v in values.items()})

    def project(
        self, points: Float[Tensor, "frames points 3"], focal: float | Tensor
    ) -> Float[Tensor, "frames points 2"]:
        """Pixels of world points; the camera stands at the origin in OpenGL axes."""
        flip = torch.tensor([1.0, -1.0], device=points.device)
        return self.principal[:, None] + focal * flip * points[..., :2] / -points[..., 2:]


@dataclass(frozen=True)
class Fit:
    """The fitted head, its states over time and the focal length."""

    identity: Float[Tensor, "identity"]
    """Coefficients of the full model, then displacements (metres): those of a `FitHead`'s models."""
    track: HeadState
    focal: float
    """Pixels."""
    landmark_bias: Float[Tensor, "landmarks 3"]
    """Where this person's landmarks lie beside the embedding's, rest frame, metres."""
