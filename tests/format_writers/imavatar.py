"""Writer of IMAvatar's layout: FLAME scaled by four, OpenGL axes, images counted from 1."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from format_writers.truth import USED_EXPR, USED_IDENTITY, Truth


def write_imavatar(root: Path, truth: Truth, videos: dict[str, range], mirrored: bool = False) -> Path:
    """A subject's folder.

    Args:
        root: the new folder.
        truth: the person.
        videos: for each video's name the timesteps that it shows.
        mirrored: whether the focal length is positive, and x mirrored to make up for it.
    """
    w, h = truth.focal[0] / truth.size, truth.focal[1] / truth.size
    intrinsics = [w if mirrored else -w, h, truth.center[0] / truth.size, truth.center[1] / truth.size]
    for name, steps in videos.items():
        for folder in ("image", "mask"):
            (root / name / folder).mkdir(parents=True)
        frames = []
        for number, t in enumerate(steps, 1):
            Image.fromarray(truth.rgb[t]).save(root / name / "image" / f"{number}.png")
            Image.fromarray(truth.mask[t]).save(root / name / "mask" / f"{number}.png")
            frames.append(_frame(truth, t, number, mirrored))
        document = {
            "frames": frames,
            "shape_params": truth.identity.numpy()[:USED_IDENTITY].tolist(),
            "intrinsics": intrinsics,
        }
        (root / name / "flame_params.json").write_text(json.dumps(document))
    return root


def _frame(truth: Truth, t: int, number: int, mirrored: bool) -> dict:
    """The head's translation moves to the camera, whose position is then scaled by four."""
    state = truth.track[t]
    T_world_camera = truth.T_world_camera.copy()
    T_world_camera[:3, 3] -= state.translation.numpy()
    world_mat = np.linalg.inv(T_world_camera)[:3]
    world_mat[:, 3] *= 4
    if mirrored:
        world_mat[0] *= -1
    return {
        "file_path": f"./image/{number}",
        "world_mat": world_mat.tolist(),
        "expression": state.expression.numpy()[:USED_EXPR].tolist(),
        "pose": state.full_pose.numpy().tolist(),
        "bbox": [0.0, 0.0, 1.0, 1.0],
    }
