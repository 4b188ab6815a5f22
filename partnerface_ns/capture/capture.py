"""A tracked video in this project's conventions, independent of its file format.

Cameras are camera-to-world in OpenGL axes (x right, y up, looking down -z), metres; intrinsics are pixels with
the origin at the image's top left corner. Readers convert to these conventions; no other code converts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.capture.names import CaptureFormat
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera


@dataclass(frozen=True)
class Frame:
    """One image: a timestep seen by one camera."""

    timestep: int
    """Index into the capture's track, counted from 0 without gaps."""
    camera_index: int
    camera: Camera
    image_path: Path | None
    """None if the sequence has no images and only drives an avatar."""
    mask_path: Path | None
    """Foreground mask (person = white); None if the image's alpha is the mask, or if there is none."""
    composited: bool = False
    """Whether the image is already composited on the capture's `background`."""

    @property
    def name(self) -> str:
        """The frame's name in messages: its image file, else its timestep."""
        return f"timestep {self.timestep}" if self.image_path is None else self.image_path.name


@dataclass(frozen=True)
class HeadModelRef:
    """The head model of a capture's coefficients, as far as the capture names it."""

    name: str | None = None
    fingerprint: str | None = None
    """`HeadModel.fingerprint`, if the capture stores it."""
    path: Path | None = None
    """A head model file inside the capture folder."""


@dataclass(frozen=True)
class Capture:
    """One person's tracked video."""

    root: Path
    name: str
    head_model: HeadModelRef
    identity: Float[Tensor, "identity"]
    static_offset: Float[Tensor, "verts 3"] | None
    """Personal vertex offsets in the rest frame, metres; None if the tracker has none."""
    track: HeadState
    """Head states of all timesteps, batch axes (timesteps,)."""
    frames: tuple[Frame, ...]
    splits: Mapping[str, tuple[int, ...]]
    """Indices into `frames` for train, val and test. In a monocular capture val is empty."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Reason for each frame that was left out, by the frame's name."""
    background: tuple[float, float, float] | None = None
    """Colour in [0, 1] that the images are already composited on; None if they are not."""
    format: CaptureFormat = "vhap"
    """The layout that it was read from."""
    notes: tuple[str, ...] = ()
    """Information about the reading: what was left out, what could not be checked."""
    warnings: tuple[str, ...] = ()
    """Faults of the capture that change the result, and how each was handled."""

    @property
    def num_timesteps(self) -> int:
        return len(self.track)

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and the number of frames left out for each reason."""
        counts = Counter(self.skipped.values())
        return (*self.notes, *(f"{count} frames left out: {reason}" for reason, count in counts.items()))

    def frames_of(self, split: str) -> tuple[Frame, ...]:
        return tuple(self.frames[i] for i in self.splits[split])

    def without(self, left_out: Collection[int]) -> Capture:
        """The capture without the frames at these indices. The track keeps all timesteps."""
        kept = [i for i in range(len(self.frames)) if i not in left_out]
        position = {old: new for new, old in enumerate(kept)}
        return replace(
            self,
            frames=tuple(self.frames[i] for i in kept),
            splits={name: tuple(position[i] for i in split if i in position) for name, split in self.splits.items()},
        )

    def states_of(self, split: str) -> HeadState:
        """Head states of the timesteps of a split, sorted and without repetition, batch axes (timesteps_of_split,)."""
        steps = sorted({self.frames[i].timestep for i in self.splits[split]})
        return self.track[torch.tensor(steps, dtype=torch.long)]
