"""The quantities that a fit looks for, in the form in which they are easy to find, and their first guess.

The place is that of the face's centre, in pixels, and its depth the logarithm of its size in the image: then turning
the head leaves the face where it is, and the focal length, which hardly shows in a face, does not shake everything
else. With the translation of the head model in their place the descent gets stuck in wrong rotations, because each
turn about the far-off joints needs a translation to make up for it. Both eyes share one direction and may converge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.alignment import align_points
from partnerface_ns.geometry.rigid import rotation_from_axis_angle
from partnerface_ns.tracking.fit_head import FitHead
from partnerface_ns.tracking.observations import Observations

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
"""Adam's step for each unknown, in its unit."""
ONCE = ("identity", "displacement", "landmark_bias", "log_focal")
"""Unknowns that hold for the whole video."""
_ROOT_SHARE = 0.2
"""Share of the head's turning that the root starts with; the neck has the rest."""
_VERGENCE = 0.02
"""Radians that each eye turns inwards to look at something 1.5 metres away."""


@dataclass
class Unknowns:
    """Tensors that are optimised."""

    identity: Float[Tensor, "identity"]
    displacement: Float[Tensor, "controls"]
    """Metres along the normal around each control point of hair, neck and shoulders."""
    landmark_bias: Float[Tensor, "landmarks 3"]
    """Metres, rest frame."""
    log_focal: Float[Tensor, ""]
    """Of the ratio to the expected focal length."""
    expression: Float[Tensor, "frames expr"]
    rotation: Float[Tensor, "frames 3"]
    neck: Float[Tensor, "frames 3"]
    jaw: Float[Tensor, "frames 3"]
    gaze: Float[Tensor, "frames 2"]
    """Pitch (down is positive) and yaw (to the subject's left is positive), radians."""
    vergence: Float[Tensor, "frames 1"]
    """Radians that each eye turns inwards."""
    place: Float[Tensor, "frames 2"]
    """The face's centre in pixels from the principal point, x right and y up."""
    log_depth: Float[Tensor, "frames 1"]
    """Of the metres at the face's centre that one pixel measures."""
    pivots: Float[Tensor, "3 3"]
    """Root joint, neck joint and the face's centre in the rest frame, metres; not optimised."""

    def items(self) -> list[tuple[str, Tensor]]:
        return [(name, getattr(self, name)) for name in RATES]

    @property
    def coefficients(self) -> Float[Tensor, "coefficients"]:
        """Identity and displacement, for the identity directions of a `FitHead`'s models."""
        return torch.cat([self.identity, self.displacement])

    def states(self, focal: Tensor | float, part: slice = slice(None)) -> HeadState:
        """Head states of some frames."""
        size = self.log_depth[part].exp()
        root, neck, face = self.pivots
        turned = rotation_from_axis_angle(self.neck[part]) @ (face - neck) + neck - root
        turned = (rotation_from_axis_angle(self.rotation[part]) @ turned[..., None])[..., 0] + root
        translation = torch.cat([self.place[part] * size, -focal * size], -1) - turned
        pitch, yaw = self.gaze[part].split(1, -1)
        vergence = self.vergence[part]
        zero = torch.zeros_like(vergence)
        eyes = torch.cat([pitch, yaw - vergence, zero, pitch, yaw + vergence, zero], -1)
        return HeadState(self.expression[part], self.rotation[part], self.neck[part], self.jaw[part], eyes, translation)


def first_guess(head: FitHead, seen: Observations, known: Unknowns | None = None) -> Unknowns:
    """Unknowns to start from: each frame's pose from its landmarks, all else at rest.

    Args:
        head: the reduced head model.
        seen: the frames.
        known: what holds for the whole video, if it was fitted before; its frames are not used.
    """
    from scipy.spatial.transform import Rotation

    num, model = len(seen.times), head.landmark_model
    once = {
        "identity": torch.zeros(head.num_identity),
        "displacement": torch.zeros(model.num_identity - head.num_identity),
        "landmark_bias": torch.zeros(head.num_landmarks, 3),
        "log_focal": torch.zeros(()),
    }
    if known is not None:
        once = {name: getattr(known, name).detach().cpu().clone() for name in ONCE}
    shaped = ShapedHead.of(model, torch.cat([once["identity"], once["displacement"]]))
    pose = pose_from_landmarks(shaped.verts_rest[: head.num_landmarks], seen)
    turn = Rotation.from_matrix(pose.rotation.numpy())
    root = torch.from_numpy(_ROOT_SHARE * turn.as_rotvec()).float()
    neck = torch.from_numpy((Rotation.from_rotvec(root.numpy()).inv() * turn).as_rotvec()).float()
    zeros = lambda size: torch.zeros(num, size)  # noqa: E731
    joints = model.joint_regressor @ shaped.verts_rest
    return Unknowns(
        **once,
        expression=zeros(model.num_expr),
        rotation=root,
        neck=neck,
        jaw=zeros(3),
        gaze=zeros(2),
        vergence=torch.full((num, 1), _VERGENCE),
        place=pose.centre,
        log_depth=-pose.scale.log()[:, None],
        pivots=torch.stack([joints[0], joints[1], shaped.verts_rest[: head.num_landmarks].mean(0)]),
    )


@dataclass(frozen=True)
class Pose:
    """A first guess of each frame's pose."""

    rotation: Float[Tensor, "frames 3 3"]
    scale: Float[Tensor, "frames"]
    """Pixels of the image for one metre at the head."""
    centre: Float[Tensor, "frames 2"]
    """Mean landmark, pixels from the principal point, x right and y up."""


def pose_from_landmarks(rest: Float[Tensor, "landmarks 3"], seen: Observations) -> Pose:
    """The similarity that takes the head's landmarks to the detected ones with their depths (Procrustes)."""
    points = seen.landmarks.double() * torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    aligned = [align_points(rest.double().numpy(), frame.numpy()) for frame in points]
    rotation = torch.from_numpy(np.stack([pose.rotation for pose in aligned]))
    scale = torch.tensor([pose.scale for pose in aligned], dtype=torch.float64)
    principal = seen.principal.double() * torch.tensor([1.0, -1.0], dtype=torch.float64)
    return Pose(rotation.float(), scale.float(), (points[..., :2].mean(1) - principal).float())
