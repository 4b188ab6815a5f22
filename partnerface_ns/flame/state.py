"""Head states: expression coefficients, joint rotations and head translation of one or many frames.

Angles are axis-angle vectors in radians, lengths metres. As in FLAME, the global rotation is about the root joint and
the translation is added last; both map the head model's rest frame to the world.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class HeadState:
    """Head state of one frame, or of many frames along the leading axes."""

    expression: Float[Tensor, "*batch expr"]
    """Coefficients of the head model's expression directions."""
    rotation: Float[Tensor, "*batch 3"]
    """Global rotation about the root joint, world from rest."""
    neck: Float[Tensor, "*batch 3"]
    """Rotation of the neck joint, relative to the root."""
    jaw: Float[Tensor, "*batch 3"]
    """Rotation of the jaw joint, relative to the head; positive x opens the mouth."""
    eyes: Float[Tensor, "*batch 6"]
    """Rotations of the left and the right eyeball, relative to the head."""
    translation: Float[Tensor, "*batch 3"]
    """Added to every vertex after posing, in the world frame."""
    torso: Float[Tensor, "*batch 6"] | None = None
    """Rotation of the shoulders about the root joint, world from rest, and translation. None if it is not known."""

    @staticmethod
    def neutral(num_expr: int, batch: tuple[int, ...] = ()) -> HeadState:
        """The rest pose without expression."""
        z = lambda size: torch.zeros(*batch, size)  # noqa: E731
        return HeadState(z(num_expr), z(3), z(3), z(3), z(6), z(3))

    @staticmethod
    def stack(states: Sequence[HeadState]) -> HeadState:
        """Join states along a new leading axis. The torso is known if it is in all of them."""
        tensors = [state.tensors() for state in states]
        common = [name for name in tensors[0] if all(name in of_state for of_state in tensors)]
        return HeadState(**{name: torch.stack([of_state[name] for of_state in tensors]) for name in common})

    @property
    def batch_shape(self) -> torch.Size:
        return self.expression.shape[:-1]

    @property
    def full_pose(self) -> Float[Tensor, "*batch 15"]:
        """Axis-angle of the five joints in FLAME's order: global, neck, jaw, left eye, right eye."""
        return torch.cat([self.rotation, self.neck, self.jaw, self.eyes], dim=-1)

    def tensors(self) -> dict[str, Tensor]:
        """The fields by name, without a torso that is not known."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def map(self, change: Callable[[Tensor], Tensor]) -> HeadState:
        """Apply a function to each tensor."""
        return HeadState(**{name: change(value) for name, value in self.tensors().items()})

    def to(self, device: torch.device | str) -> HeadState:
        return self.map(lambda value: value.to(device))

    def __getitem__(self, index: int | slice | Tensor) -> HeadState:
        return self.map(lambda value: value[index])

    def __len__(self) -> int:
        return self.batch_shape[0]
