"""A tracked video in our own conventions, whatever format it came from.

Cameras are camera-to-world in OpenGL axes (x right, y up, looking down -z), metres; intrinsics are pixels with
the origin at the image's top left corner. Readers convert to this at the edge; nothing inside converts again.
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
    """One image: a moment seen by one camera."""

    timestep: int
    """Index into the capture's track, counted from 0 without gaps."""
    camera_index: int
    camera: Camera
    image_path: Path | None
    """None where a sequence only drives an avatar and has no images."""
    mask_path: Path | None
    """Foreground mask (person = white); None where the image's alpha, or nothing, says it."""
    composited: bool = False
    """The image has no background of its own any more: it already shows the capture's `background`."""

    @property
    def name(self) -> str:
        """What messages call the frame: its image's file, else its timestep."""
        return f"timestep {self.timestep}" if self.image_path is None else self.image_path.name


@dataclass(frozen=True)
class HeadModelRef:
    """Which head model a capture's coefficients belong to, as far as the capture says."""

    name: str | None = None
    fingerprint: str | None = None
    """`HeadModel.fingerprint`, where the capture records it."""
    path: Path | None = None
    """A head model file inside the subject folder."""


@dataclass(frozen=True)
class Capture:
    """One person's tracked video."""

    root: Path
    name: str
    head_model: HeadModelRef
    identity: Float[Tensor, "identity"]
    static_offset: Float[Tensor, "verts 3"] | None
    """Personal vertex offsets in the rest frame, metres, where the tracker gives them."""
    track: HeadState
    """Head states of all timesteps, batch axes (timesteps,)."""
    frames: tuple[Frame, ...]
    splits: Mapping[str, tuple[int, ...]]
    """For train, val and test: indices into `frames`. A monocular capture has an empty val."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Frames left out, by name, with the reason."""
    background: tuple[float, float, float] | None = None
    """Colour in [0, 1] that the images were already composited on; None where they were not."""
    format: CaptureFormat = "vhap"
    """Name of the layout that it was read from."""
    notes: tuple[str, ...] = ()
    """What a user should know about the reading: what was left out, what could not be checked."""
    warnings: tuple[str, ...] = ()
    """What is wrong with the capture and changes the result, with what was done about it."""

    @property
    def num_timesteps(self) -> int:
        return len(self.track)

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and how many frames were left out and why."""
        counts = Counter(self.skipped.values())
        return (*self.notes, *(f"{count} frames left out: {reason}" for reason, count in counts.items()))

    def frames_of(self, split: str) -> tuple[Frame, ...]:
        return tuple(self.frames[i] for i in self.splits[split])

    def without(self, left_out: Collection[int]) -> Capture:
        """The capture without the frames of these indices; the track and its timesteps stay as they are."""
        kept = [i for i in range(len(self.frames)) if i not in left_out]
        position = {old: new for new, old in enumerate(kept)}
        return replace(
            self,
            frames=tuple(self.frames[i] for i in kept),
            splits={name: tuple(position[i] for i in split if i in position) for name, split in self.splits.items()},
        )

    def states_of(self, split: str) -> HeadState:
        """Head states of a split's timesteps in order, each once, batch axes (timesteps_of_split,)."""
        steps = sorted({self.frames[i].timestep for i in self.splits[split]})
        return self.track[torch.tensor(steps, dtype=torch.long)]
