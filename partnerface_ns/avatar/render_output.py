"""What rendering gives: pixels, colours for inspection, and in training the samples that the regularisers need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partnerface_ns.avatar.canonical_warp import DeformedPoints


class Inspection(NamedTuple):
    """Colours that show what the avatar does inside, (..., 3) in [0, 1] over black."""

    parts: Float[Tensor, "*rays 3"]
    """Mixture of part colours."""
    deformation: Float[Tensor, "*rays 3"]
    """Size of the part deformation as a share of its largest offset, grey."""
    canonical: Float[Tensor, "*rays 3"]
    """Canonical place in the canonical box."""


class TrainingSamples(NamedTuple):
    """Samples of a training step."""

    deformed: DeformedPoints
    random_offset: Float[Tensor, "random 3"] | None
    """Part deformation at random places of the canonical head, metres; None without a deformation."""
    skin_correction: Float[Tensor, "points"]
    """Learned log density less the surface prior near skin; zero elsewhere."""
    undeformed: Float[Tensor, "points 3"]
    """Canonical places before deformation, metres."""
    on_hits: Bool[Tensor, "points"]
    """Samples of rays that meet anything."""
    optical_depth: Float[Tensor, "*rays 1"]
    """-log(1 - opacity) of each ray."""
    timesteps: Int[Tensor, "frames"] | None
    """Timesteps of the training capture that were rendered."""


class RenderOutput(NamedTuple):
    """Rendered rays. Their axes are (frames, rays), or (rays,) where one frame was rendered from one place."""

    rgb: Float[Tensor, "*rays 3"]
    """Colour in [0, 1] over the avatar's background."""
    accumulation: Float[Tensor, "*rays 1"]
    """Opacity in [0, 1]."""
    depth: Float[Tensor, "*rays 1"]
    """Metres along the ray."""
    inspection: Inspection | None = None
    """In evaluation."""
    samples: TrainingSamples | None = None
    """In training."""

    def channels(self) -> dict[str, Float[Tensor, "*rays channels"]]:
        """All channels by name, rgb first."""
        channels = {"rgb": self.rgb, "accumulation": self.accumulation, "depth": self.depth}
        return channels | ({} if self.inspection is None else self.inspection._asdict())

    def squeeze_frame(self) -> RenderOutput:
        """Evaluated rays of a single frame, without the frame axis."""
        inspection = None if self.inspection is None else Inspection(*(color[0] for color in self.inspection))
        return RenderOutput(self.rgb[0], self.accumulation[0], self.depth[0], inspection)

    def clone(self) -> RenderOutput:
        """Evaluated rays in memory of their own."""
        inspection = None if self.inspection is None else Inspection(*(color.clone() for color in self.inspection))
        return RenderOutput(self.rgb.clone(), self.accumulation.clone(), self.depth.clone(), inspection)

    @staticmethod
    def cat(chunks: Sequence[RenderOutput]) -> RenderOutput:
        """Join chunks of evaluated rays along the rays' axis."""
        pixels = (torch.cat(channel, -2) for channel in zip(*(chunk[:3] for chunk in chunks), strict=True))
        inspected = [chunk.inspection for chunk in chunks if chunk.inspection is not None]
        inspection = (
            Inspection(*(torch.cat(channel, -2) for channel in zip(*inspected, strict=True))) if inspected else None
        )
        return RenderOutput(*pixels, inspection)
