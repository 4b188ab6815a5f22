"""Rotation vectors (axis times angle, radians) as scipy rotations and back."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor


def rotation_from_vector(vector: Float[Tensor, "*batch 3"]) -> Rotation:
    """The rotations of vectors; batch axes are () or (rotations,)."""
    return Rotation.from_rotvec(vector.numpy().astype(np.float64))


def rotation_to_vector(rotation: Rotation) -> Float[Tensor, "*batch 3"]:
    """The vectors of rotations, float32."""
    return torch.from_numpy(rotation.as_rotvec().astype(np.float32))
