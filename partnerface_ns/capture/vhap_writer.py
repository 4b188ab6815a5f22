"""Writer for the layout of `vhap.py`: images, masks, head states and split files.

The folder appears complete or not at all. Name and fingerprint of the head model are stored, but never its arrays.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.vhap import SPLITS, TORSO_KEYS
from partnerface_ns.capture.writing import new_folder
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.npz_file import write_npz
from partnerface_ns.common.progress import progress
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera

_CANONICAL_JAW = 0.3
"""Jaw angle of the canonical pose that other readers of this layout expect, radians."""


def write_vhap(root: Path, capture: Capture, head: HeadModel, images: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write a capture folder.

    Args:
        root: the new folder. It must not exist or be empty.
        capture: the capture to write. The paths of its frames are not used.
        head: the head model that its coefficients belong to.
        images: colours (height, width, 3) and mask (height, width), uint8, of each frame in order.

    Raises:
        InputError: the folder is not empty, or an image has another size than its camera.
    """
    with new_folder(root) as partial:
        for folder in ("images", "fg_masks", "flame_param"):
            (partial / folder).mkdir()
        _write_states(partial, capture)
        frames = zip(capture.frames, images, strict=True)
        for frame, (rgb, mask) in progress(frames, "Writing images", total=len(capture.frames)):
            _write_image(partial, frame, rgb, mask)
        _write_splits(partial, capture, head)


def _stem(frame: Frame) -> str:
    return f"{frame.timestep:05d}_{frame.camera_index:02d}"


def _write_image(folder: Path, frame: Frame, rgb: np.ndarray, mask: np.ndarray) -> None:
    size = (frame.camera.height, frame.camera.width)
    for kind, array, shape in (("images", rgb, (*size, 3)), ("fg_masks", mask, size)):
        path = folder / kind / f"{_stem(frame)}.png"
        if array.shape != shape or array.dtype != np.uint8:
            raise InputError(
                path.name,
                "the image has a wrong shape or type",
                expected=f"{shape} uint8",
                actual=(array.shape, array.dtype),
            )
        Image.fromarray(array).save(path)


def _write_states(folder: Path, capture: Capture) -> None:
    for t in range(capture.num_timesteps):
        write_npz(folder / "flame_param" / f"{t:05d}.npz", flame_arrays(capture, capture.track[t]))
    neutral = HeadState.neutral(capture.track.expression.shape[-1])
    jaw = neutral.jaw.clone()
    jaw[0] = _CANONICAL_JAW
    write_npz(folder / "canonical_flame_param.npz", flame_arrays(capture, replace(neutral, jaw=jaw)))


def flame_arrays(capture: Capture, state: HeadState) -> dict[str, np.ndarray]:
    """Parameters of one frame with the names and shapes of this layout."""
    row = lambda tensor: tensor.detach().cpu().numpy()[None]  # noqa: E731
    arrays = {
        "translation": row(state.translation),
        "rotation": row(state.rotation),
        "neck_pose": row(state.neck),
        "jaw_pose": row(state.jaw),
        "eyes_pose": row(state.eyes),
        "expr": row(state.expression),
        "shape": row(capture.identity)[0],
    }
    if state.torso is not None:
        arrays |= {key: row(value) for key, value in zip(TORSO_KEYS, state.torso.split(3), strict=True)}
    if capture.static_offset is not None:
        arrays["static_offset"] = row(capture.static_offset)
    return arrays


def _write_splits(folder: Path, capture: Capture, head: HeadModel) -> None:
    every = tuple(range(len(capture.frames)))
    for name, indices in (("", every), *((f"_{split}", capture.splits[split]) for split in SPLITS)):
        document = _document(capture, head, [capture.frames[i] for i in indices])
        (folder / f"transforms{name}.json").write_text(json.dumps(document, indent=1), encoding="utf8")


def _document(capture: Capture, head: HeadModel, frames: list[Frame]) -> dict[str, Any]:
    first = _intrinsics(frames[0].camera) if frames else {}
    return {
        **first,
        "frames": [_frame(frame) for frame in frames],
        "timestep_indices": sorted({frame.timestep for frame in frames}),
        "camera_indices": sorted({frame.camera_index for frame in frames}),
        "head_model": {"name": head.name, "fingerprint": head.fingerprint},
        "background": capture.background,
    }


def _frame(frame: Frame) -> dict[str, Any]:
    return {
        "timestep_index": frame.timestep,
        "timestep_index_original": frame.timestep,
        "timestep_id": f"{frame.timestep:05d}",
        "camera_index": frame.camera_index,
        "camera_id": f"{frame.camera_index:02d}",
        **_intrinsics(frame.camera),
        "transform_matrix": frame.camera.T_world_camera.tolist(),
        "file_path": f"images/{_stem(frame)}.png",
        "fg_mask_path": f"fg_masks/{_stem(frame)}.png",
        "flame_param_path": f"flame_param/{frame.timestep:05d}.npz",
    }


def _intrinsics(camera: Camera) -> dict[str, float]:
    return {
        "cx": camera.cx,
        "cy": camera.cy,
        "fl_x": camera.fl_x,
        "fl_y": camera.fl_y,
        "h": camera.height,
        "w": camera.width,
        "camera_angle_x": 2 * math.atan(camera.width / 2 / camera.fl_x),
        "camera_angle_y": 2 * math.atan(camera.height / 2 / camera.fl_y),
    }
