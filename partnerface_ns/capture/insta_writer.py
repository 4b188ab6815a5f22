"""Writer for INSTA's layout (see `insta.py`), with the text files that a patched exporter adds.

Meshes are exact. The text files lose the bend of the neck, because the head's motion moves to the camera as a whole,
and personal vertex offsets. Segmentation masks are not written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from partnerface_ns.capture.cameras import OPENCV_TO_OPENGL
from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.metrical_tracker import NUM_EXPR, NUM_IDENTITY
from partnerface_ns.capture.parameters import pad_zeros
from partnerface_ns.capture.still_head import StillHead
from partnerface_ns.capture.writing import new_folder
from partnerface_ns.common.progress import progress
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.geometry.rasterizer import project, rasterize

NUM_VAL = 20
"""The last test frames are also the validation split, as in INSTA."""
_DEPTH_SCALE = 1000
_TXT = ("exp", "shape", "jaw", "eyes")


def write_insta(root: Path, capture: Capture, head: HeadModel, images: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write a folder in INSTA's layout.

    Args:
        root: the new folder. It must not exist or be empty.
        capture: the capture to write.
        head: its head model.
        images: colours (height, width, 3) and mask (height, width), uint8, of each frame in order.

    Raises:
        InputError: the folder is not empty.
    """
    still = StillHead.from_capture(capture, head)
    states = still.track_without_turning()
    with new_folder(root) as folder:
        for name in ("images", "depth", "meshes", *(f"flame/{key}" for key in _TXT)):
            (folder / name).mkdir(parents=True)
        faces = head.faces.numpy()
        _write_obj(folder / "canonical.obj", still.neutral_verts(), faces)
        frames = zip(capture.frames, images, strict=True)
        for index, (frame, (rgb, mask)) in enumerate(progress(frames, "Writing images", len(capture.frames))):
            stem, verts = f"{index:05d}", still.verts(frame)
            Image.fromarray(np.dstack([rgb, mask])).save(folder / "images" / f"{stem}.png")
            Image.fromarray(_depth(verts, faces, frame.camera, still.camera_to_world(frame))).save(
                folder / "depth" / f"{stem}.png"
            )
            _write_obj(folder / "meshes" / f"{stem}.obj", verts, faces)
            state = states[frame.timestep]
            values = {
                "exp": pad_zeros(state.expression.numpy(), NUM_EXPR),
                "shape": pad_zeros(capture.identity.numpy(), NUM_IDENTITY),
                "jaw": _six_numbers(state.jaw.numpy()),
                "eyes": _six_numbers(state.eyes.numpy()),
            }
            for key, numbers in values.items():
                _write_txt(folder / "flame" / key / f"{stem}.txt", numbers)
        _write_splits(folder, capture, still)


def _write_splits(folder: Path, capture: Capture, still: StillHead) -> None:
    test = capture.splits["test"]
    splits = {
        "": tuple(range(len(capture.frames))),
        "_train": capture.splits["train"],
        "_test": test,
        "_val": capture.splits["val"] or test[-NUM_VAL:],
    }
    for suffix, indices in splits.items():
        frames = [_frame(index, still.camera_to_world(capture.frames[index])) for index in indices]
        document = _intrinsics(capture.frames[0]) | {"frames": frames}
        (folder / f"transforms{suffix}.json").write_text(json.dumps(document, indent=1), encoding="utf8")


def _intrinsics(frame: Frame) -> dict[str, float]:
    camera = frame.camera
    return {
        "w": float(camera.width),
        "h": float(camera.height),
        "cx": camera.cx,
        "cy": camera.cy,
        "fl_x": camera.fl_x,
        "fl_y": camera.fl_y,
    }


def _frame(index: int, T_world_camera: np.ndarray) -> dict[str, Any]:
    return {
        "transform_matrix": (T_world_camera @ OPENCV_TO_OPENGL).tolist(),
        "file_path": f"images/{index:05d}.png",
        "mesh_path": f"meshes/{index:05d}.obj",
        "exp_path": f"flame/exp/{index:05d}.txt",
        "depth_path": f"depth/{index:05d}.png",
    }


def _depth(verts: np.ndarray, faces: np.ndarray, camera: Camera, T_world_camera: np.ndarray) -> np.ndarray:
    """Depth of the nearest surface along the view in millimetres, uint16; 0 without a surface."""
    screen, nearness = project(verts, camera.intrinsics, T_world_camera)
    visible = rasterize(screen, nearness, faces, camera.width, camera.height)
    depth = np.zeros(camera.height * camera.width, np.uint16)
    depth[visible.samples] = np.rint(_DEPTH_SCALE / visible.nearness).clip(0, 65535).astype(np.uint16)
    return depth.reshape(camera.height, camera.width)


def _six_numbers(vectors: np.ndarray) -> np.ndarray:
    """The first two rows of the rotation matrix of each axis-angle vector, concatenated."""
    return Rotation.from_rotvec(vectors.reshape(-1, 3).astype(np.float64)).as_matrix()[:, :2].reshape(-1)


def _write_txt(path: Path, values: np.ndarray) -> None:
    path.write_text("".join(f"{value:.9g}\n" for value in values), encoding="utf8")


def _write_obj(path: Path, verts: np.ndarray, faces: np.ndarray) -> None:
    lines = ["v {:.7f} {:.7f} {:.7f}\n".format(*vertex) for vertex in verts.tolist()]
    lines += ["f {} {} {}\n".format(*face) for face in (faces + 1).tolist()]
    path.write_text("".join(lines), encoding="utf8")
