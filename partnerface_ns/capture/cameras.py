"""Reading and checking cameras from a user's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from partnerface_ns.capture.images import MAX_SIDE
from partnerface_ns.capture.json_object import JsonObject
from partnerface_ns.common.errors import InputError
from partnerface_ns.geometry.camera import Camera, Intrinsics

OPENCV_TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""Converts OpenCV camera axes (x right, y down, looking along z) to OpenGL axes and back."""
_ROTATION_TOLERANCE = 1e-3
MAX_FOCAL = 1e5
_MAX_CENTER = 2.0 * MAX_SIDE
"""Bounds in pixels of the focal length and the principal point; cropping can move the latter out of the image."""


def read_intrinsics(record: JsonObject) -> tuple[float, float, float, float, int, int]:
    """fl_x, fl_y, cx, cy in pixels, width and height of a transforms file, where width and height may be floats."""
    width, height = (round(record.number(key, 1.0, float(MAX_SIDE))) for key in ("w", "h"))
    fl_x, fl_y = (record.number(key, 1.0, MAX_FOCAL) for key in ("fl_x", "fl_y"))
    cx, cy = (record.number(key, -_MAX_CENTER, _MAX_CENTER) for key in ("cx", "cy"))
    return fl_x, fl_y, cx, cy, width, height


def intrinsics_from_matrix(K: Float[np.ndarray, "3 3"], source: Path, key: str) -> Intrinsics:
    """Check a matrix of intrinsics in pixels and convert it.

    Raises:
        InputError: focal lengths or principal point are out of bounds.
    """
    fl_x, fl_y, cx, cy = K[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    if not (1 <= min(fl_x, fl_y) <= max(fl_x, fl_y) <= MAX_FOCAL and max(abs(cx), abs(cy)) <= _MAX_CENTER):
        expected = "focal lengths and the centre in pixels"
        raise InputError(source, "wrong value", key=key, expected=expected, actual=f"{fl_x:g} {fl_y:g} {cx:g} {cy:g}")
    return Intrinsics(fl_x, fl_y, cx, cy)


def check_camera_to_world(matrix: Float[np.ndarray, "4 4"], source: Path, key: str) -> Float[np.ndarray, "4 4"]:
    """Return the matrix after checking that it is rigid: a rotation without mirroring or scale, and a translation.

    Raises:
        InputError: the matrix is not rigid.
    """
    rotation = matrix[:3, :3]
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if np.abs(matrix[3] - [0, 0, 0, 1]).max() > _ROTATION_TOLERANCE:
        raise InputError(source, "not a camera pose", key=key, expected="last row 0 0 0 1", actual=matrix[3])
    if error > _ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
        raise InputError(
            source,
            "not a camera pose",
            key=key,
            expected="a rotation: orthonormal rows, determinant 1",
            actual=f"rows off by {error:.3g}, determinant {np.linalg.det(rotation):.3g}",
        )
    return matrix


def read_camera(intrinsics: JsonObject, pose: JsonObject, key: str = "transform_matrix") -> Camera:
    """Read a camera. `pose` holds camera-to-world in OpenGL axes under `key`."""
    matrix = check_camera_to_world(pose.numbers(key, 4, 4), pose.source, pose.key(key))
    return Camera(matrix, *read_intrinsics(intrinsics))
