"""Rays of a few frames, whose pixels are asked for."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Rays:
    """Rays of a few frames."""

    origins: Float[Tensor, "rays 3"]
    """World frame, metres."""
    directions: Float[Tensor, "rays 3"]
    """World frame, unit length."""
    frame: Int[Tensor, "rays"]
    """Index of each ray's frame on the batch axis of the head states that come with the rays."""
