"""Writer of INSTA's export: RGBA images, posed meshes, OpenCV camera-to-world matrices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from format_writers.metrical_tracker import FLIP, camera_to_still_head, frame_content, sixes
from format_writers.truth import Truth
from partnerface_ns.flame.state import HeadState


def write_insta(root: Path, truth: Truth, num_train: int = 5, parameters: str = "none") -> Path:
    """An export.

    Args:
        root: the new folder.
        truth: the person.
        num_train: frames that train.
        parameters: "none" (meshes and expressions), "txt" (a patched exporter's files), "frame" (the tracker's beside).
    """
    for folder in ("images", "meshes", "flame/exp"):
        (root / folder).mkdir(parents=True)
    still, _ = truth.local()
    verts, faces = truth.shaped.pose(still).verts.numpy(), truth.head.faces.numpy()
    cameras = camera_to_still_head(truth)
    write_obj(root / "canonical.obj", truth.shaped.pose(HeadState.neutral(100)).verts.numpy(), faces)
    for t in range(truth.num_frames):
        Image.fromarray(np.dstack([truth.rgb[t], truth.mask[t]])).save(root / "images" / f"{t:05d}.png")
        write_obj(root / "meshes" / f"{t:05d}.obj", verts[t], faces)
        write_txt(root / "flame" / "exp" / f"{t:05d}.txt", truth.track.expression[t].numpy())
        if parameters == "txt":
            write_parameters(root, truth, t)
        if parameters == "frame":
            (root / "checkpoint").mkdir(exist_ok=True)
            torch.save(frame_content(truth, t, cameras[t]), root / "checkpoint" / f"{t:05d}.frame")
    every = list(range(truth.num_frames))
    splits = {"": every, "_train": every[:num_train], "_test": every[num_train:], "_val": every[-2:]}
    for suffix, steps in splits.items():
        document = intrinsics(truth) | {"frames": [frame_entry(t, cameras[t]) for t in steps]}
        (root / f"transforms{suffix}.json").write_text(json.dumps(document))
    return root


def intrinsics(truth: Truth) -> dict:
    return {
        "w": float(truth.size),
        "h": float(truth.size),
        "fl_x": truth.focal[0],
        "fl_y": truth.focal[1],
        "cx": truth.center[0],
        "cy": truth.center[1],
    }


def frame_entry(t: int, T_world_camera: np.ndarray) -> dict:
    return {
        "transform_matrix": (T_world_camera @ FLIP).tolist(),
        "file_path": f"images/{t:05d}.png",
        "mesh_path": f"meshes/{t:05d}.obj",
        "exp_path": f"flame/exp/{t:05d}.txt",
        "depth_path": f"depth/{t:05d}.png",
        "seg_mask_path": f"seg_mask/{t:05d}.png",
    }


def write_parameters(root: Path, truth: Truth, t: int) -> None:
    values = {
        "shape": truth.identity.numpy(),
        "jaw": sixes(truth.track.jaw[t].numpy()),
        "eyes": sixes(truth.track.eyes[t].numpy()),
        "eyelids": np.zeros(2),
    }
    for key, value in values.items():
        (root / "flame" / key).mkdir(exist_ok=True)
        write_txt(root / "flame" / key / f"{t:05d}.txt", value)


def write_txt(path: Path, values: np.ndarray) -> None:
    path.write_text("\n".join(f"{v:.8f}" for v in values))


def write_obj(path: Path, verts: np.ndarray, faces: np.ndarray) -> None:
    lines = ["v {:.8f} {:.8f} {:.8f}".format(*v) for v in verts] + ["f {} {} {}".format(*f) for f in faces + 1]
    path.write_text("\n".join(lines))
