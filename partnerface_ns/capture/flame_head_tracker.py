"""Reader for the output of flame-head-tracker, version 4: one npz per frame, named by its number, with the image in it.

The head stays still and the camera moves. `cam` holds three Euler angles and the position of the camera,
camera-to-world in OpenGL axes. `K` is for 256 x 256 pixels. Frames without a face have no file. The head model is FLAME
2020.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from partnerface_ns.capture.cameras import intrinsics_from_matrix
from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.capture.images import Header, read_header
from partnerface_ns.capture.metrical_tracker import FLAME_2020, NUM_EXPR, NUM_IDENTITY, require_different_numbers
from partnerface_ns.capture.parameters import (
    IDENTITY_TOLERANCE,
    join_states,
    make_state,
    pad_zeros,
    read_array,
    read_vector,
)
from partnerface_ns.capture.splits import split_at_share
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import list_files, path_inside
from partnerface_ns.common.npz_file import npz_shapes, read_npz
from partnerface_ns.common.progress import progress
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera

_K_SIZE = 256
"""Side in pixels of the image that the intrinsics `K` refer to."""
_MAX_FRAME = 1_000_000
_REQUIRED = ("shape", "exp", "jaw_pose", "eye_pose", "cam", "K")
_OPTIONAL = ("neck_pose", "head_pose")


def read_flame_head_tracker(root: Path) -> Capture:
    """Read and check a tracker's output folder.

    Raises:
        InputError: a file cannot be used. Names the file and the reason.
    """
    files = _frame_files(root)
    numbers = [int(path.stem) for path in files]
    frames, states, identities, paths = [], [], [], []
    for timestep, file in enumerate(progress(files, "Reading tracked frames")):
        path = path_inside(root, root, file.name, root)
        arrays = read_npz(path, (*_REQUIRED, *_OPTIONAL))
        identities.append(pad_zeros(read_vector(arrays, "shape", None, path), NUM_IDENTITY))
        states.append(_state(arrays, path))
        frames.append(Frame(timestep, 0, _camera(arrays, read_header(path), path), path, None))
        paths.append(path)
    difference = np.ptp(np.stack(identities), axis=0).max()
    uneven = f"the identity differs by up to {difference:.2g} between frames: its mean is used"
    missing = sorted(set(range(numbers[0], numbers[-1])) - set(numbers))
    return Capture(
        root=root,
        name=root.name,
        head_model=HeadModelRef(FLAME_2020),
        identity=torch.from_numpy(np.mean(identities, 0, dtype=np.float32)),
        static_offset=None,
        track=join_states(states, paths),
        frames=tuple(frames),
        splits=split_at_share(len(frames)),
        skipped={f"{number}.npz": "no face was found" for number in missing},
        format="flame-head-tracker",
        notes=(uneven,) if difference > IDENTITY_TOLERANCE else (),
    )


def _frame_files(root: Path) -> list[Path]:
    files = _numbered_files(root)
    if len(files) < 2:
        raise InputError(root, "too few frames", expected="two or more files such as 12.npz", actual=len(files))
    require_different_numbers(files)
    return files


def _numbered_files(root: Path) -> list[Path]:
    return [path for path in list_files(root, [".npz"]) if _is_number(path.stem)]


def _is_number(stem: str) -> bool:
    return stem.isascii() and stem.isdecimal() and len(stem) < 9 and int(stem) < _MAX_FRAME


def _state(arrays: dict[str, np.ndarray], path: Path) -> HeadState:
    rotations = {key: read_vector(arrays, key, 3, path) if key in arrays else None for key in _OPTIONAL}
    return make_state(
        pad_zeros(read_vector(arrays, "exp", None, path), NUM_EXPR),
        rotation=rotations["head_pose"],
        neck=rotations["neck_pose"],
        jaw=read_vector(arrays, "jaw_pose", 3, path),
        eyes=read_vector(arrays, "eye_pose", 6, path),
    )


def _camera(arrays: dict[str, np.ndarray], image: Header, path: Path) -> Camera:
    cam = read_vector(arrays, "cam", 6, path).astype(np.float64)
    T_world_camera = np.eye(4)
    yaw, pitch, roll = cam[:3]
    T_world_camera[:3, :3] = Rotation.from_euler("ZYX", [roll, yaw, pitch]).as_matrix()
    T_world_camera[:3, 3] = cam[3:]
    intrinsics = intrinsics_from_matrix(read_array(arrays, "K", (3, 3), path), path, "K")
    return Camera(T_world_camera, *intrinsics, _K_SIZE, _K_SIZE).resize(image.width, image.height)


def looks_like_flame_head_tracker(root: Path) -> bool:
    """Whether the folder's first numbered npz holds the tracker's parameters and an image."""
    files = _numbered_files(root)
    if not files:
        return False
    path = path_inside(root, root, files[0].name, root)
    try:
        return {"cam", "exp", "img"} <= npz_shapes(path).keys()
    except InputError:  # the reader reports the fault
        return True
