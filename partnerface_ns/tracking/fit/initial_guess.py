"""Initial values of the unknowns: the pose of each frame from its landmarks, everything else at rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.geometry.alignment import align_points
from partnerface_ns.tracking.fit.fit_head import FitHead
from partnerface_ns.tracking.fit.observations import Observations
from partnerface_ns.tracking.fit.unknowns import ONCE, Unknowns

_ROOT_SHARE = 0.2
"""Share of the head's rotation that the root starts with; the neck has the rest."""
_VERGENCE = 0.02
"""Inward rotation of each eye for a gaze at a distance of 1.5 metres, radians."""


def guess_unknowns(head: FitHead, observations: Observations, known: Unknowns | None = None) -> Unknowns:
    """Return the initial unknowns.

    Args:
        head: the reduced head model.
        observations: the frames.
        known: unknowns of an earlier fit; only those of the whole video are used.
    """
    from scipy.spatial.transform import Rotation

    num, model = len(observations.times), head.landmark_model
    once = {
        "identity": torch.zeros(head.num_identity),
        "displacement": torch.zeros(model.num_identity - head.num_identity),
        "landmark_bias": torch.zeros(head.num_landmarks, 3),
        "log_focal": torch.zeros(()),
    }
    if known is not None:
        once = {name: getattr(known, name).detach().cpu().clone() for name in ONCE}
    shaped = ShapedHead.of(model, torch.cat([once["identity"], once["displacement"]]))
    poses = poses_from_landmarks(shaped.verts_rest[: head.num_landmarks], observations)
    skull = Rotation.from_matrix(poses.rotation.numpy())
    root = torch.from_numpy(_ROOT_SHARE * skull.as_rotvec()).float()
    neck = torch.from_numpy((Rotation.from_rotvec(root.numpy()).inv() * skull).as_rotvec()).float()
    joints = model.joint_regressor @ shaped.verts_rest
    return Unknowns(
        **once,
        expression=torch.zeros(num, model.num_expr),
        rotation=root,
        neck=neck,
        jaw=torch.zeros(num, 3),
        gaze=torch.zeros(num, 2),
        vergence=torch.full((num, 1), _VERGENCE),
        place=poses.centre,
        log_depth=-poses.scale.log()[:, None],
        pivots=torch.stack([joints[0], joints[1], shaped.verts_rest[: head.num_landmarks].mean(0)]),
    )


@dataclass(frozen=True)
class InitialPoses:
    """An initial pose for each frame."""

    rotation: Float[Tensor, "frames 3 3"]
    scale: Float[Tensor, "frames"]
    """Pixels for one metre at the head."""
    centre: Float[Tensor, "frames 2"]
    """Mean landmark, pixels from the principal point, x right and y up."""


def poses_from_landmarks(rest: Float[Tensor, "landmarks 3"], observations: Observations) -> InitialPoses:
    """Align the head's landmarks with the detected ones and their depths by similarities (Procrustes)."""
    points = observations.landmarks.double() * torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    aligned = [align_points(rest.double().numpy(), frame.numpy()) for frame in points]
    rotation = torch.from_numpy(np.stack([similarity.rotation for similarity in aligned]))
    scale = torch.tensor([similarity.scale for similarity in aligned], dtype=torch.float64)
    principal = observations.principal.double() * torch.tensor([1.0, -1.0], dtype=torch.float64)
    return InitialPoses(rotation.float(), scale.float(), (points[..., :2].mean(1) - principal).float())
