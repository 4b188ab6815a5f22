"""What an avatar makes of frames and points on the way from rays to pixels, one type a stage."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rows import Rows
from partnerface_ns.warp.inverse_skinning import SkinnedFrames
from partnerface_ns.warp.part_assigner import PartWeights


class Moments(NamedTuple):
    """A few frames, ready to be rendered."""

    states: HeadState
    """Their head states, batch axes (frames,)."""
    skinned: SkinnedFrames
    """Their inverse skinning."""
    T_correction: Float[Tensor, "frames 4 4"] | None
    """What tracking missed in them."""


class MovedPoints(NamedTuple):
    """Canonical points after the part deformation."""

    points: Float[Tensor, "points 3"]
    """Canonical frame, metres."""
    ambient: Float[Tensor, "points ambient"]
    """Coordinates of the expression-dependent appearance."""
    offset: Float[Tensor, "points 3"]
    """What the deformation added, metres."""
    parts: tuple[Rows, PartWeights] | None
    """The points that have parts, and those."""


class Shaded(NamedTuple):
    """What training wants to know of the samples of its rays."""

    moved: MovedPoints
    elsewhere: Float[Tensor, "places 3"] | None
    """Offsets, metres, at random possible places."""
    correction: Float[Tensor, "points"]
    """Learned difference of log density from the expected one near skin, zero elsewhere."""
    points: Float[Tensor, "points 3"]
    """Canonical places before deformation, metres."""
    on_hits: Bool[Tensor, "points"]
    """Which of them lie on rays that meet anything."""
