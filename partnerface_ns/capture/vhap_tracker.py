"""Reader for VHAP's raw tracker output, `tracked_flame_params_{epoch}.npz`: head motion without images.

The keys are those of an exported frame, with an axis of timesteps. The motion can drive an avatar. For training, the
capture must be exported with VHAP first.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.capture.parameters import read_numbers
from partnerface_ns.capture.vhap import static_offset
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import path_inside
from partnerface_ns.common.npz_file import read_npz
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera

_NAME = re.compile(r"tracked_flame_params_(\d{1,9})\.npz")
_SIZE = 512
"""Image side in pixels for showing the motion."""
_PARTS = {"translation": 3, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "expr": None}
_OTHERS = ("shape", "focal_length", "static_offset")
_MAX_BYTES = 192 << 20


def read_vhap_tracker(root: Path) -> Capture:
    """Read the output of the last epoch.

    Raises:
        InputError: the file cannot be used. Names key and fault.
    """
    path = path_inside(root, root, _last(root).name, root)
    arrays = read_npz(path, (*_PARTS, *_OTHERS), _MAX_BYTES)
    num = len(read_numbers(arrays, "expr", path)) if arrays.get("expr", np.array(0)).ndim == 2 else 0
    if num < 1:
        raise InputError(path, "no timesteps", key="expr", expected="(timesteps, coefficients)")
    parts = {key: _rows(arrays, key, num, count, path) for key, count in _PARTS.items()}
    track = HeadState(
        parts["expr"],
        parts["rotation"],
        parts["neck_pose"],
        parts["jaw_pose"],
        parts["eyes_pose"],
        parts["translation"],
    )
    camera = _camera(arrays, track, path)
    shape = read_numbers(arrays, "shape", path)
    if shape.ndim == 0 or shape.size != shape.shape[-1]:
        raise InputError(path, "wrong shape", key="shape", expected=("coefficients",), actual=shape.shape)
    everything = tuple(range(num))
    return Capture(
        root=root,
        name=root.name,
        head_model=HeadModelRef(),
        identity=torch.from_numpy(shape.reshape(-1).astype(np.float32)),
        static_offset=static_offset(arrays, path),
        track=track,
        frames=tuple(Frame(t, 0, camera, None, None) for t in range(num)),
        splits={"train": everything, "val": (), "test": everything},
        format="vhap-tracker",
        notes=("there are no images: it can drive an avatar; for training, export it with VHAP first",),
    )


def _last(root: Path) -> Path:
    """The file of the highest epoch."""
    files = _files(root)
    if not files:
        raise InputError(root, "no tracker output", expected="tracked_flame_params_{epoch}.npz", actual="none")
    return max(files, key=_epoch)


def _epoch(path: Path) -> int:
    """The epoch in a file's name; -1 for other files."""
    match = _NAME.fullmatch(path.name)
    return -1 if match is None else int(match[1])


def _files(root: Path) -> list[Path]:
    return [path for path in root.glob("tracked_flame_params_*.npz") if _epoch(path) >= 0]


def _rows(arrays: dict[str, np.ndarray], key: str, num: int, count: int | None, path: Path) -> torch.Tensor:
    values = read_numbers(arrays, key, path)
    if values.ndim != 2 or len(values) != num or (count is not None and values.shape[1] != count):
        raise InputError(path, "wrong shape", key=key, expected=(num, count or "coefficients"), actual=values.shape)
    return torch.from_numpy(values.astype(np.float32))


def _camera(arrays: dict[str, np.ndarray], track: HeadState, path: Path) -> Camera:
    """A camera in front of the head: at the origin as in exports, or a metre in front of a head at the origin."""
    T_world_camera = np.eye(4)
    if float(track.translation[:, 2].median()) > -0.3:
        T_world_camera[2, 3] = 1.0
    focal = read_numbers(arrays, "focal_length", path).reshape(-1)
    if len(focal) == 0 or not 0.1 <= focal[0] <= 100:
        raise InputError(path, "wrong value", key="focal_length", expected="a share of the image's size")
    fl = float(focal[0]) * _SIZE
    return Camera(T_world_camera, fl, fl, _SIZE / 2, _SIZE / 2, _SIZE, _SIZE)


def looks_like_vhap_tracker(root: Path) -> bool:
    """Whether the folder contains the tracker's output."""
    return bool(_files(root))
