"""Writer of flame-head-tracker's output: one npz per frame with the image in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from format_writers.metrical_tracker import camera_to_still_head
from format_writers.truth import Truth


def write_flame_head_tracker(root: Path, truth: Truth, numbers: list[int]) -> Path:
    """Write one file for each timestep, with these numbers. The truth's focal lengths must be equal."""
    root.mkdir(parents=True)
    cameras = camera_to_still_head(truth)
    scale = 256 / truth.size
    K = (
        np.array([[truth.focal[0], 0, truth.center[0]], [0, truth.focal[1], truth.center[1]], [0, 0, 1 / scale]])
        * scale
    )
    for t, number in enumerate(numbers):
        state = truth.track[t]
        np.savez(
            root / f"{number}.npz",
            shape=truth.identity.numpy()[None],
            exp=state.expression.numpy()[None],
            head_pose=np.zeros((1, 3), np.float32),
            jaw_pose=state.jaw.numpy()[None],
            neck_pose=state.neck.numpy()[None],
            eye_pose=state.eyes.numpy()[None],
            cam=_cam(cameras[t])[None],
            fov=np.array([20.0]),
            K=K[None],
            img=truth.rgb[t][None],
            parsing=(truth.mask[t][None] > 0).astype(np.uint8) * 3,
        )
    return root


def _cam(T_world_camera: np.ndarray) -> np.ndarray:
    """Angles about y, x and z of R = Rz Ry Rx, then the position."""
    R = T_world_camera[:3, :3]
    z, y, x = Rotation.from_matrix(R).as_euler("ZYX")
    return np.array([y, x, z, *T_world_camera[:3, 3]])
