"""Writer of a VHAP export: composited images, masks, one parameter file per timestep, split files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from format_writers.truth import Truth

TEETH_VERTS = 120


def write_vhap_export(root: Path, truth: Truth, num_train: int = 5, num_cameras: int = 1, teeth: bool = False) -> Path:
    """A capture of one or several cameras at the same place. With several, the last is the val split."""
    for folder in ("images", "fg_masks", "flame_param"):
        (root / folder).mkdir(parents=True)
    for t in range(truth.num_frames):
        np.savez(root / "flame_param" / f"{t:05d}.npz", **_params(truth, t, teeth))
        for camera in range(num_cameras):
            white = np.where(truth.mask[t][..., None] > 0, truth.rgb[t], 255)
            white[0, 0] -= camera  # no two cameras take the same image
            Image.fromarray(white).save(root / "images" / f"{t:05d}_{camera:02d}.png")
            Image.fromarray(truth.mask[t]).save(root / "fg_masks" / f"{t:05d}_{camera:02d}.png")
    held_out = num_cameras - 1 if num_cameras > 1 else None
    cameras, train, rest = range(num_cameras), range(num_train), range(num_train, truth.num_frames)
    splits = {
        "train": [(t, c) for t in train for c in cameras if c != held_out],
        "val": [(t, held_out) for t in train if held_out is not None],
        "test": [(t, c) for t in rest for c in cameras],
    }
    splits[""] = [pair for pairs in splits.values() for pair in pairs]
    for split, pairs in splits.items():
        frames = [_frame(truth, t, c) for t, c in pairs]
        document = {"frames": frames, "timestep_indices": [t for t, _ in pairs], "camera_indices": list(cameras)}
        stale = {"w": truth.size * 2, "h": truth.size * 2, "fl_x": 1.0, "fl_y": 1.0, "cx": 0.0, "cy": 0.0}
        name = f"transforms_{split}.json" if split else "transforms.json"
        (root / name).write_text(json.dumps((stale if frames else {}) | document))
    return root


def write_vhap_tracks(root: Path, truth: Truth) -> Path:
    """The tracker's own output after two epochs; only the last is valid."""
    root.mkdir(parents=True, exist_ok=True)
    track = truth.track
    arrays = {
        "translation": track.translation,
        "rotation": track.rotation,
        "neck_pose": track.neck,
        "jaw_pose": track.jaw,
        "eyes_pose": track.eyes,
        "expr": track.expression,
        "shape": truth.identity,
    }
    arrays = {key: value.numpy() for key, value in arrays.items()} | {"focal_length": np.array([2.0])}
    np.savez(root / "tracked_flame_params_0.npz", **(arrays | {"expr": np.zeros((2, 100))}))
    np.savez(root / "tracked_flame_params_30.npz", **arrays)
    return root


def _params(truth: Truth, t: int, teeth: bool) -> dict[str, np.ndarray]:
    state = truth.track[t]
    extra = TEETH_VERTS if teeth else 0
    return {
        "translation": state.translation.numpy()[None],
        "rotation": state.rotation.numpy()[None],
        "neck_pose": state.neck.numpy()[None],
        "jaw_pose": state.jaw.numpy()[None],
        "eyes_pose": state.eyes.numpy()[None],
        "shape": truth.identity.numpy(),
        "expr": state.expression.numpy()[None],
        "static_offset": np.zeros((1, truth.head.num_verts + extra, 3), np.float32),
    }


def _frame(truth: Truth, t: int, camera: int) -> dict:
    return {
        "timestep_index": t,
        "timestep_id": f"{t:05d}",
        "camera_index": camera,
        "camera_id": f"{camera:02d}",
        "cx": truth.center[0],
        "cy": truth.center[1],
        "fl_x": truth.focal[0],
        "fl_y": truth.focal[1],
        "w": truth.size,
        "h": truth.size,
        "transform_matrix": truth.T_world_camera.tolist(),
        "file_path": f"images/{t:05d}_{camera:02d}.png",
        "fg_mask_path": f"fg_masks/{t:05d}_{camera:02d}.png",
        "flame_param_path": f"flame_param/{t:05d}.npz",
    }
