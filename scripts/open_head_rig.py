"""Joints, skinning weights and pose correctives of the open head.

What moves with the jaw is read off the source's own jawOpen displacement, which is almost exactly a rotation of the
lower teeth about one axis: a vertex' jaw weight is the share of that rotation that it takes part in, and what no
share can explain becomes a pose corrective. The lids' share in a look goes into correctives of the eye joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from open_head_mesh import smooth
from scipy.spatial.transform import Rotation

NECK_SHARES = {"neck01": 0.12, "neck02": 0.45, "neck03": 0.85}
"""How much of the neck joint's rotation the neck's own bones take; what lies above takes all, the trunk none."""
TRUNK = ("spine", "clavicle", "shoulder", "upperarm", "lowerarm", "breast", "root", "pelvis", "wrist")
JAW_DAMPING = 0.004
"""Metres; where opening the jaw moves a vertex by less than about this, its weight fades out."""


@dataclass(frozen=True)
class Hinge:
    """A rotation about the x axis through a point."""

    angle: float
    """Radians."""
    centre: np.ndarray
    """(3,) metres, x = 0."""


def fit_hinge(points: np.ndarray, displacement: np.ndarray) -> Hinge:
    """The rotation about x that takes points (verts, 3) to points + displacement, least squares."""
    moved = points + displacement
    before, after = points.mean(0), moved.mean(0)
    a, b = (points - before)[:, 1:], (moved - after)[:, 1:]
    angle = np.arctan2(np.sum(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]), np.sum(a * b))
    rotation = Rotation.from_rotvec([angle, 0, 0]).as_matrix()
    centre = np.linalg.lstsq(np.eye(3) - rotation, after - rotation @ before, rcond=1e-6)[0]
    return Hinge(float(angle), centre * [0, 1, 1])


def rotation_angle(points: np.ndarray, displacement: np.ndarray) -> float:
    """Angle in radians of the rotation in a displacement of points (verts, 3)."""
    moved = points + displacement
    return float(Rotation.align_vectors(moved - moved.mean(0), points - points.mean(0))[0].magnitude())


def neck_weights(bones: dict[str, np.ndarray]) -> np.ndarray:
    """Share of the neck joint's rotation over the source's vertices, in [0, 1]."""
    total = sum(bones.values())
    moved = np.zeros_like(total)
    for bone, weight in bones.items():
        share = 0.0 if bone.startswith(TRUNK) else NECK_SHARES.get(bone, 1.0)
        moved += share * weight
    return moved / np.maximum(total, 1e-9)


def jaw_weights(template: np.ndarray, jaw_open: np.ndarray, hinge: Hinge) -> np.ndarray:
    """Share (verts,) of the jaw's rotation in the displacement `jaw_open` (verts, 3), in [0, 1]."""
    rotation = Rotation.from_rotvec([hinge.angle, 0, 0]).as_matrix()
    turned = (template - hinge.centre) @ (rotation - np.eye(3)).T
    share = np.sum(turned * jaw_open, -1) / (np.sum(turned**2, -1) + JAW_DAMPING**2)
    return np.clip(share, 0, 1)


def jaw_corrective(template: np.ndarray, jaw_open: np.ndarray, weights: np.ndarray, hinge: Hinge) -> np.ndarray:
    """Rest-frame offsets (verts, 3) that make skinning at the hinge's angle reproduce `jaw_open`."""
    rotation = Rotation.from_rotvec([hinge.angle, 0, 0]).as_matrix()
    linear = np.eye(3) + weights[:, None, None] * (rotation - np.eye(3))
    target = jaw_open - weights[:, None] * ((template - hinge.centre) @ (rotation - np.eye(3)).T)
    return np.linalg.solve(linear, target[..., None])[..., 0]


def add_sine_corrective(pose_dirs: np.ndarray, joint: int, axis: int, offsets_per_sine: np.ndarray) -> None:
    """Make offsets (verts, 3) appear in proportion to the sine of a joint's angle about an axis.

    A rotation about an axis shows its sine in two mirrored entries of R - I; each carries half.

    Args:
        pose_dirs: (verts, 3, 36), changed in place.
        joint: 1 to 4, in FLAME's order.
        axis: 0 for x, 1 for y.
        offsets_per_sine: (verts, 3) metres.
    """
    plus, minus = ((2, 1), (1, 2)) if axis == 0 else ((0, 2), (2, 0))
    for sign, (row, column) in ((0.5, plus), (-0.5, minus)):
        pose_dirs[..., 9 * (joint - 1) + 3 * row + column] += sign * offsets_per_sine


def regressor_row(template: np.ndarray, chosen: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """Weights (verts,) over the chosen vertices that give the joint (3,) and follow affine motion of the choice."""
    points = template[chosen]
    centre = points.mean(0)
    spokes = points - centre
    row = np.zeros(len(template))
    row[chosen] = 1.0 / len(points) + spokes @ np.linalg.solve(spokes.T @ spokes, joint - centre)
    return row


def smooth_skinning(weights: np.ndarray, triangles: np.ndarray, skin: np.ndarray, steps: int) -> np.ndarray:
    """Smooth weights (verts, joints) along the skin; all else stays."""
    return np.where(skin[:, None], smooth(weights, triangles, steps), weights)
