"""The canonical warp maps a point of a posed frame to the canonical head.

    x (world) -> inverse skinning and torso bone -> tracking correction -> c -> part deformation -> c' (canonical)

`CanonicalWarp` composes the pieces of `warp/` and holds no state of its own. Training, baking, inspection and export
use the same object. Points are metres. The method's paper publishes inverse skinning and part deformation; torso and
correction are our choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.profiler import record_function

from partnerface_ns.common.precision import ignore_outer_autocast
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rows import Rows
from partnerface_ns.warp.driving_code import DrivingCode
from partnerface_ns.warp.inverse_skinning import CanonicalPoints, InverseSkinning, PosedFrames, SkinnedFrames
from partnerface_ns.warp.part_assigner import PartWeights
from partnerface_ns.warp.part_deformation import Deformation, GlobalDeformation, PartDeformation
from partnerface_ns.warp.torso import TorsoMotion
from partnerface_ns.warp.tracking_correction import TrackingCorrection

_TORSO_ALONE = 0.99
"""Torso share from which a point has no part deformation."""


class WarpFrames(NamedTuple):
    """A few posed frames, with everything that the warp needs of them."""

    states: HeadState
    """Head states, batch axes (frames,)."""
    skinned: SkinnedFrames
    """Inverse skinning of these states."""
    T_correction: Float[Tensor, "frames 4 4"] | None
    """Tracking correction in the canonical frame; None if the avatar has none."""


class DeformedPoints(NamedTuple):
    """Canonical points after the part deformation."""

    points: Float[Tensor, "points 3"]
    """Canonical frame, metres."""
    ambient: Float[Tensor, "points ambient"]
    """Coordinates of the expression-dependent appearance."""
    offset: Float[Tensor, "points 3"]
    """Offset that the deformation added, metres."""
    parts: tuple[Rows, PartWeights] | None
    """The points that have parts, and their part weights; None without parts."""


@dataclass(frozen=True)
class CanonicalWarp:
    """Posed point to canonical point for one person."""

    skinning: InverseSkinning
    torso: TorsoMotion | None
    """Motion of the torso bone; None lets the torso follow the head model's root joint."""
    correction: TrackingCorrection | None
    """Tracking correction behind the face, if any."""
    code: DrivingCode
    """Normalises head states for the deformation networks."""
    deformation: PartDeformation | GlobalDeformation | None
    """None for inverse skinning alone."""
    assign: Callable[[Tensor], PartWeights] | None
    """Part weights of canonical points in the current stage; None without parts."""
    num_ambient: int
    """Number of ambient coordinates."""
    code_noise: float = 0.0
    """Standard deviation of the noise on the normalised driving code."""
    mouth_only: bool = False
    """Whether only points near the mouth are deformed."""
    fixed_shapes: bool = False
    """Whether no shape may depend on values (`geometry/rows.py`), as in a CUDA graph."""

    def pose_frames(
        self, states: HeadState, timesteps: Int[Tensor, "frames"] | None = None, posed: PosedFrames | None = None
    ) -> WarpFrames:
        """Pose a few frames.

        Args:
            states: head states, batch axes (frames,).
            timesteps: timesteps of the training capture, whose learned residuals are added; None for frames that
                training did not see.
            posed: the posed frames, if they are known already.
        """
        with record_function("posing the head"), ignore_outer_autocast():
            T_world_torso = None if self.torso is None else self.torso(states, timesteps)
            T_correction = None if self.correction is None else self.correction(states, timesteps)
            skinned = self.skinning.skin_frames(posed or self.skinning.pose(states), T_world_torso)
            return WarpFrames(states, skinned, T_correction)

    def to_canonical(
        self, points: Float[Tensor, "points 3"], frame: Int[Tensor, "points"], frames: WarpFrames
    ) -> CanonicalPoints:
        """Undeformed canonical points.

        Args:
            points: world frame, metres.
            frame: index into `frames` of each point, ascending.
            frames: from `pose_frames`.
        """
        with record_function("inverse skinning"), ignore_outer_autocast():
            canonical = self.skinning(points, frame, frames.skinned, self.fixed_shapes)
            if self.correction is None or frames.T_correction is None:
                return canonical
            corrected = self.correction.correct(
                canonical.points, frame, canonical.torso, frames.T_correction, self.fixed_shapes
            )
            return replace(canonical, points=corrected)

    def deformation_share(self, canonical: CanonicalPoints, everywhere: bool = False) -> Float[Tensor, "points"]:
        """Share in [0, 1] of the part deformation that canonical points receive, 0 at the torso.

        In the mouth stage it also falls to 0 away from the mouth. No gradient reaches the points through it.

        Args:
            canonical: from `to_canonical`.
            everywhere: whether the mouth stage is ignored.
        """
        share = 1 - canonical.torso
        if self.mouth_only and not everywhere:
            share = share * self.skinning.mouth_share(canonical.points.detach())
        return share

    def deform(
        self,
        canonical: CanonicalPoints,
        frame: Int[Tensor, "points"],
        states: HeadState,
        share: Float[Tensor, "points"] | None = None,
    ) -> DeformedPoints:
        """Add the part deformation to points that move with the head; points of the torso stay.

        Args:
            canonical: from `to_canonical`.
            frame: index into `states` of each point.
            states: head states, batch axes (frames,).
            share: from `deformation_share`; None takes that of the stage.
        """
        with record_function("part deformation"):
            return self._deform(canonical, frame, states, share)

    def _deform(
        self, canonical: CanonicalPoints, frame: Tensor, states: HeadState, share: Float[Tensor, "points"] | None
    ) -> DeformedPoints:
        points = canonical.points
        undeformed = DeformedPoints(
            points, points.new_zeros(points.shape[0], self.num_ambient), torch.zeros_like(points), None
        )
        if self.deformation is None:
            return undeformed
        if share is None:
            share = self.deformation_share(canonical)
        deformed = Rows(share > 1 - _TORSO_ALONE, self.fixed_shapes)
        codes = self.code(states)
        if self.code_noise > 0:
            codes = codes + self.code_noise * torch.randn_like(codes)
        head_points, head_frame = deformed.gather(points), deformed.gather(frame)
        on_nodes = isinstance(self.deformation, PartDeformation) and self.deformation.config.node_spacing > 0
        # With nodes, the parts of the points themselves are for inspection only.
        parts = None if self.assign is None or (on_nodes and torch.is_grad_enabled()) else self.assign(head_points)
        if on_nodes:
            predicted = self._interpolate(head_points, head_frame, codes)
        elif isinstance(self.deformation, PartDeformation):
            assert parts is not None
            predicted = self.deformation(head_points, head_frame, codes, parts, self.fixed_shapes)
        else:
            predicted = self.deformation(head_points, head_frame, codes)
        share_of_rows = deformed.gather(share)[:, None]
        offset = deformed.scatter(undeformed.offset, predicted.offset * share_of_rows)
        ambient = deformed.scatter(undeformed.ambient, predicted.ambient * share_of_rows)
        return DeformedPoints(points + offset, ambient, offset, None if parts is None else (deformed, parts))

    def _interpolate(
        self, points: Float[Tensor, "points 3"], frame: Int[Tensor, "points"], codes: Float[Tensor, "frames code"]
    ) -> Deformation:
        """The part deformation, interpolated between nodes around the head."""
        assert isinstance(self.deformation, PartDeformation) and self.assign is not None
        nodes = self.skinning.nodes(self.deformation.config.node_spacing)
        values = self.deformation.on_nodes(nodes.points, codes, self.assign(nodes.points))
        return self.deformation.bounded(nodes.read(values, points, frame))
