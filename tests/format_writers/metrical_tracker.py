"""Writer of metrical-tracker's output: torch files of numpy arrays, a still head, a moving camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from format_writers.truth import Truth

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def write_metrical_tracker(root: Path, truth: Truth, eyelids: float = 0.0) -> Path:
    (root / "checkpoint").mkdir(parents=True)
    (root / "input").mkdir()
    cameras = camera_to_still_head(truth)
    for t in range(truth.num_frames):
        torch.save(frame_content(truth, t, cameras[t], eyelids), root / "checkpoint" / f"{t:05d}.frame")
        Image.fromarray(truth.rgb[t]).save(root / "input" / f"{t:05d}.png")
    return root


def write_flashavatar(root: Path, truth: Truth) -> Path:
    """The same with images counted from 1, and masks."""
    write_metrical_tracker(root, truth)
    (root / "alpha").mkdir()
    (root / "imgs").mkdir()
    for t in range(truth.num_frames):
        (root / "input" / f"{t:05d}.png").rename(root / "imgs" / f"{t + 1:05d}.png")
        Image.fromarray(truth.mask[t]).save(root / "alpha" / f"{t + 1:05d}.png")
    (root / "input").rmdir()
    return root


def camera_to_still_head(truth: Truth) -> np.ndarray:
    """Camera-to-world matrix of each frame relative to the still head, OpenGL axes."""
    return np.linalg.inv(truth.local()[1]) @ truth.T_world_camera


def frame_content(truth: Truth, t: int, T_world_camera: np.ndarray, eyelids: float = 0.0) -> dict:
    state = truth.track[t]
    T_camera_world = np.linalg.inv(T_world_camera @ FLIP)
    K = np.array([[truth.focal[0], 0, truth.center[0]], [0, truth.focal[1], truth.center[1]], [0, 0, 1]])
    return {
        "flame": {
            "exp": state.expression.numpy()[None],
            "shape": truth.identity.numpy()[None],
            "eyes": sixes(state.eyes.numpy())[None],
            "eyelids": np.full((1, 2), eyelids, np.float32),
            "jaw": sixes(state.jaw.numpy())[None],
        },
        "opencv": {"R": T_camera_world[None, :3, :3], "t": T_camera_world[None, :3, 3], "K": K[None]},
        "img_size": np.array([truth.size, truth.size]),
        "frame_id": t,
    }


def sixes(vectors: np.ndarray) -> np.ndarray:
    """The first two rows of each rotation, scaled and skewed like an optimiser's result."""
    rows = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix()[:, :2].copy()
    rows[:, 1] = 1.3 * (rows[:, 1] + 0.2 * rows[:, 0])
    return (0.8 * rows[:, :1].repeat(2, 1) * [[1], [0]] + rows * [[0], [1]]).reshape(-1).astype(np.float32)
