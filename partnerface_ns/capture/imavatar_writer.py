"""Writer for IMAvatar's layout (see `imavatar.py`): one folder of training frames and one of test frames.

The layout stores 100 identity and 50 expression coefficients of FLAME and one set of intrinsics. Further coefficients
and personal vertex offsets are lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.imavatar import FILE_NAME, FLAME_SCALE, STORED_EXPR, STORED_IDENTITY
from partnerface_ns.capture.metrical_tracker import NUM_EXPR, NUM_IDENTITY
from partnerface_ns.capture.writing import new_folder
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.progress import progress
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.geometry.camera import Camera


def write_imavatar(
    root: Path, capture: Capture, head: HeadModel, images: Iterable[tuple[np.ndarray, np.ndarray]]
) -> None:
    """Write a folder with the videos `train` and `test`.

    Args:
        root: the new folder. It must not exist or be empty.
        capture: the capture to write.
        head: its head model, with FLAME's numbers of coefficients.
        images: colours (height, width, 3) and mask (height, width), uint8, of each frame in order.

    Raises:
        InputError: the folder is not empty, the head model is not FLAME, or intrinsics differ between frames.
    """
    _check(capture, head)
    video_of = {index: name for name in ("test", "train") for index in capture.splits[name]}
    entries: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    with new_folder(root) as folder:
        for name in entries:
            for kind in ("image", "mask"):
                (folder / name / kind).mkdir(parents=True)
        frames = zip(capture.frames, images, strict=True)
        for index, (frame, (rgb, mask)) in enumerate(progress(frames, "Writing images", len(capture.frames))):
            if index not in video_of:
                continue
            video = video_of[index]
            number = len(entries[video]) + 1
            Image.fromarray(rgb).save(folder / video / "image" / f"{number}.png")
            Image.fromarray(mask).save(folder / video / "mask" / f"{number}.png")
            entries[video].append(_frame(capture, frame, mask, number))
        for name, listed in entries.items():
            document = {
                "frames": listed,
                "shape_params": capture.identity[:STORED_IDENTITY].tolist(),
                "intrinsics": _intrinsics(capture.frames[0].camera),
            }
            (folder / name / FILE_NAME).write_text(json.dumps(document), encoding="utf8")


def _check(capture: Capture, head: HeadModel) -> None:
    if (head.num_identity, head.num_expr) != (NUM_IDENTITY, NUM_EXPR):
        raise InputError(
            capture.root,
            "cannot be written in IMAvatar's layout, which stores FLAME's coefficients",
            expected=f"{NUM_IDENTITY} identity and {NUM_EXPR} expression directions",
            actual=f"{head.num_identity} and {head.num_expr} of {head.name}",
        )
    intrinsics = [_intrinsics(frame.camera) for frame in capture.frames]
    if not np.allclose(intrinsics, intrinsics[0], atol=1e-6):
        raise InputError(capture.root, "cannot be written in IMAvatar's layout, which has one camera's intrinsics")


def _intrinsics(camera: Camera) -> list[float]:
    width, height = camera.width, camera.height
    return [-camera.fl_x / width, camera.fl_y / height, camera.cx / width, camera.cy / height]


def _frame(capture: Capture, frame: Frame, mask: np.ndarray, number: int) -> dict[str, Any]:
    """The JSON entry of a frame. The head's translation moves to the camera, whose position is then scaled."""
    state = capture.track[frame.timestep]
    T_world_camera = frame.camera.T_world_camera.copy()
    T_world_camera[:3, 3] -= state.translation.double().numpy()
    world_mat = np.linalg.inv(T_world_camera)[:3]
    world_mat[:, 3] *= FLAME_SCALE
    return {
        "file_path": f"./image/{number}",
        "world_mat": world_mat.tolist(),
        "expression": state.expression[:STORED_EXPR].tolist(),
        "pose": state.full_pose.tolist(),
        "bbox": _box(mask),
    }


def _box(mask: np.ndarray) -> list[float]:
    """Left, top, right and bottom of the foreground as shares of the image."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        return [0.0, 0.0, 1.0, 1.0]
    height, width = mask.shape
    return [columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height]
