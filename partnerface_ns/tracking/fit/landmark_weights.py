"""Weights of the landmarks in a fit, from their visibility."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.geometry.rigid import rotation_from_axis_angle
from partnerface_ns.tracking.video.face_topology import IRIS_LEFT, IRIS_RIGHT

_OFFSET, _COSINE_RANGE, _MIN_WEIGHT = 0.6, 0.4, 0.02
"""A weight is `cosine / _COSINE_RANGE + _OFFSET` of the cosine to the line of sight, clamped to [_MIN_WEIGHT, 1]."""
_IRIS_FACTOR = 6
"""Weight of an iris landmark, relative to the corner of its eye."""
_EYES = ((386, 374, 362, 263), (159, 145, 133, 33))
"""Upper lid, lower lid, inner and outer corner of the left and of the right eye."""
_CLOSED_RATIO, _RATIO_RANGE = 0.08, 0.12
"""Height of the lid gap, relative to the eye's width, of a closed eye, and the range in which the iris appears."""


def landmark_weights(
    landmarks: Float[Tensor, "frames landmarks 3"],
    rotation: Float[Tensor, "frames 3 3"],
    normals: Float[Tensor, "landmarks 3"],
    openness: Float[Tensor, "frames 2"],
) -> Float[Tensor, "frames landmarks"]:
    """Weights of the landmarks: small on the far side of the head, where the detector guesses, and for hidden irises.

    Args:
        landmarks: positions, metres; the camera is at the origin.
        rotation: rotation of the skull.
        normals: normals of the landmarks on the rest head.
        openness: result of `eye_openness`.
    """
    turned = torch.einsum("fab,lb->fla", rotation, normals)
    cosine = (turned * normalize(-landmarks)).sum(-1)
    weights = (cosine / _COSINE_RANGE + _OFFSET).clamp(_MIN_WEIGHT, 1)
    for side, iris in enumerate((IRIS_LEFT, IRIS_RIGHT)):
        inner_corner = _EYES[side][2]
        weights[:, iris] = _IRIS_FACTOR * weights[:, inner_corner, None] * openness[:, side, None]
    return weights


def eye_openness(landmarks: Float[Tensor, "frames landmarks 3"]) -> Float[Tensor, "frames 2"]:
    """Openness of the left and the right eye: 0 closed, 1 open enough to see the iris well."""
    result = []
    for upper, lower, inner, outer in _EYES:
        gap = (landmarks[:, upper] - landmarks[:, lower]).norm(dim=-1)
        width = (landmarks[:, inner] - landmarks[:, outer]).norm(dim=-1)
        result.append(((gap / width - _CLOSED_RATIO) / _RATIO_RANGE).clamp(0, 1))
    return torch.stack(result, -1)


def head_rotation(root: Float[Tensor, "frames 3"], neck: Float[Tensor, "frames 3"]) -> Float[Tensor, "frames 3 3"]:
    """Rotation of the skull from the axis-angle rotations of root and neck."""
    return rotation_from_axis_angle(root) @ rotation_from_axis_angle(neck)


def normalize(vectors: Float[Tensor, "*batch axes"]) -> Float[Tensor, "*batch axes"]:
    """Scale vectors to length 1; several times as fast as `torch.nn.functional.normalize` for short vectors."""
    return vectors * vectors.square().sum(-1, keepdim=True).clamp(min=1e-20).rsqrt()
