"""The unknowns of a fit, in a parametrisation that is easy to optimise.

The position of the head is the face's centre in pixels, and its depth is the logarithm of the size of a pixel at the
face. A rotation of the head then leaves the face in place, and a change of the focal length, which a face hardly
determines, affects nothing else. With the translation of the head model as unknown, gradient descent ends in wrong
rotations, because every rotation about the distant joints needs a compensating translation. Both eyes share one
direction and may converge.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rotation_from_axis_angle

RATES = {
    "identity": 0.05,
    "displacement": 0.002,
    "landmark_bias": 2e-4,
    "log_focal": 0.01,
    "expression": 0.03,
    "rotation": 0.01,
    "neck": 0.01,
    "jaw": 0.02,
    "gaze": 0.015,
    "vergence": 0.005,
    "place": 1.0,
    "log_depth": 0.01,
}
"""Learning rate of each unknown, in its unit."""
ONCE = ("identity", "displacement", "landmark_bias", "log_focal")
"""Unknowns with one value for the whole video."""


@dataclass
class Unknowns:
    """The tensors that are optimised."""

    identity: Float[Tensor, "identity"]
    displacement: Float[Tensor, "controls"]
    """Displacement along the normal around each control point of hair, neck and shoulders, metres."""
    landmark_bias: Float[Tensor, "landmarks 3"]
    """Offset of this person's landmarks from the embedding, rest frame, metres."""
    log_focal: Float[Tensor, ""]
    """Logarithm of the ratio to the expected focal length."""
    expression: Float[Tensor, "frames expr"]
    rotation: Float[Tensor, "frames 3"]
    neck: Float[Tensor, "frames 3"]
    jaw: Float[Tensor, "frames 3"]
    gaze: Float[Tensor, "frames 2"]
    """Pitch (down is positive) and yaw (to the subject's left is positive), radians."""
    vergence: Float[Tensor, "frames 1"]
    """Inward rotation of each eye, radians."""
    place: Float[Tensor, "frames 2"]
    """The face's centre, pixels from the principal point, x right and y up."""
    log_depth: Float[Tensor, "frames 1"]
    """Logarithm of the size of one pixel at the face's centre, metres."""
    pivots: Float[Tensor, "3 3"]
    """Root joint, neck joint and the face's centre, rest frame, metres. Not optimised."""

    def items(self) -> list[tuple[str, Tensor]]:
        """Names and tensors of everything that is optimised."""
        return [(name, getattr(self, name)) for name in RATES]

    @property
    def coefficients(self) -> Float[Tensor, "coefficients"]:
        """Identity and displacement, for the identity directions of a `FitHead`'s models."""
        return torch.cat([self.identity, self.displacement])

    def states(self, focal: Tensor | float, part: slice = slice(None)) -> HeadState:
        """Head states of some frames for a focal length in pixels."""
        pixel_size = self.log_depth[part].exp()
        root, neck, face = self.pivots
        from_root = rotation_from_axis_angle(self.neck[part]) @ (face - neck) + neck - root
        centre = (rotation_from_axis_angle(self.rotation[part]) @ from_root[..., None])[..., 0] + root
        translation = torch.cat([self.place[part] * pixel_size, -focal * pixel_size], -1) - centre
        pitch, yaw = self.gaze[part].split(1, -1)
        vergence = self.vergence[part]
        zero = torch.zeros_like(vergence)
        eyes = torch.cat([pitch, yaw - vergence, zero, pitch, yaw + vergence, zero], -1)
        return HeadState(self.expression[part], self.rotation[part], self.neck[part], self.jaw[part], eyes, translation)
