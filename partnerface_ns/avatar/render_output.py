"""Result of rendering: pixels, inspection colours, and in training the samples that the regularisers need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partnerface_ns.avatar.canonical_warp import DeformedPoints


class Inspection(NamedTuple):
    """Colours that visualise the inner state of the avatar, in [0, 1] over black."""

    parts: Float[Tensor, "*rays 3"]
    """Part colours, mixed by the part weights."""
    deformation: Float[Tensor, "*rays 3"]
    """Size of the part deformation as a share of its largest offset, grey."""
    canonical: Float[Tensor, "*rays 3"]
    """Position in the canonical box."""


class TrainingSamples(NamedTuple):
    """Samples of a training step."""

    deformed: DeformedPoints
    random_offset: Float[Tensor, "random 3"] | None
    """Offsets of the part deformation at random canonical points, metres; None without a deformation."""
    skin_correction: Float[Tensor, "points"]
    """Learned correction of the log density near skin; zero elsewhere."""
    undeformed: Float[Tensor, "points 3"]
    """Canonical points before deformation, metres."""
    on_hits: Bool[Tensor, "points"]
    """Whether each sample belongs to a ray with occupied cells."""
    optical_depth: Float[Tensor, "*rays 1"]
    """-log(1 - opacity) of each ray."""
    height: Float[Tensor, "*rays 1"]
    """Mean height of the visible surface above the skin times the opacity of each ray, metres."""
    timesteps: Int[Tensor, "frames"] | None
    """Rendered timesteps of the training capture."""


class RenderOutput(NamedTuple):
    """Rendered rays, with axes (frames, rays), or (rays,) for a single frame."""

    rgb: Float[Tensor, "*rays 3"]
    """Colour in [0, 1] over the avatar's background."""
    accumulation: Float[Tensor, "*rays 1"]
    """Opacity in [0, 1]."""
    depth: Float[Tensor, "*rays 1"]
    """Expected distance along the ray, metres."""
    inspection: Inspection | None = None
    """Inspection colours; None in training."""
    samples: TrainingSamples | None = None
    """Samples for the regularisers; None in evaluation."""

    def channels(self) -> dict[str, Float[Tensor, "*rays channels"]]:
        """All channels by name, rgb first."""
        channels = {"rgb": self.rgb, "accumulation": self.accumulation, "depth": self.depth}
        return channels | ({} if self.inspection is None else self.inspection._asdict())

    def squeeze_frame(self) -> RenderOutput:
        """Remove the frame axis of a single frame, in evaluation."""
        inspection = None if self.inspection is None else Inspection(*(color[0] for color in self.inspection))
        return RenderOutput(self.rgb[0], self.accumulation[0], self.depth[0], inspection)

    def clone(self) -> RenderOutput:
        """Copy to new memory, in evaluation."""
        inspection = None if self.inspection is None else Inspection(*(color.clone() for color in self.inspection))
        return RenderOutput(self.rgb.clone(), self.accumulation.clone(), self.depth.clone(), inspection)

    @staticmethod
    def cat(chunks: Sequence[RenderOutput]) -> RenderOutput:
        """Concatenate chunks along the rays' axis, in evaluation."""
        rgb, accumulation, depth = (
            torch.cat(channel, -2) for channel in zip(*(chunk[:3] for chunk in chunks), strict=True)
        )
        inspected = [chunk.inspection for chunk in chunks if chunk.inspection is not None]
        inspection = (
            Inspection(*(torch.cat(channel, -2) for channel in zip(*inspected, strict=True))) if inspected else None
        )
        return RenderOutput(rgb, accumulation, depth, inspection)
