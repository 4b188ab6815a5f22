"""Reader for the layout of IMAvatar, PointAvatar, FLARE, MonoGaussianAvatar and SplattingAvatar.

Each video is a folder with `flame_params.json`, `image/1.png` and `mask/1.png`, counted from 1. `world_mat` is
world-to-camera in OpenGL axes; the x axis is mirrored if the focal length is positive. FLAME is scaled by four, so
camera positions are divided by 4. There is no translation; the head turns by the global rotation. The head model is
FLAME 2020 with 100 identity and 50 expression coefficients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from partnerface_ns.capture.cameras import MAX_FOCAL, check_camera_to_world
from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.capture.images import check_images, read_header
from partnerface_ns.capture.json_object import JsonObject
from partnerface_ns.capture.metrical_tracker import FLAME_2020, NUM_EXPR, NUM_IDENTITY
from partnerface_ns.capture.parameters import check_identity, join_states, make_state, pad_zeros
from partnerface_ns.capture.splits import split_off_last
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import natural_key, path_inside, require_file
from partnerface_ns.common.progress import progress
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera

FILE_NAME = "flame_params.json"
FLAME_SCALE = 4.0
"""Scale of FLAME in this layout."""
STORED_IDENTITY, STORED_EXPR = 100, 50
_PIXELS = 512
"""Image side that intrinsics in pixels refer to."""


@dataclass(frozen=True)
class _Intrinsics:
    """Intrinsics as shares of the image's size, and the sign of the x axis."""

    fl_x: float
    fl_y: float
    cx: float
    cy: float
    x_sign: float


def read_imavatar(root: Path) -> Capture:
    """Read a folder of videos, or a single video.

    Of several videos, those with `test` in their name are the test split, else the last one. Of a single video, its end
    is the test split.

    Raises:
        InputError: a file cannot be used. Names the file and the reason.
    """
    files = _video_files(root)
    frames: list[Frame] = []
    states: list[HeadState] = []
    video_of_frame: list[int] = []
    identity = None
    for number, file in enumerate(files):
        document = JsonObject.read(file)
        own_identity = document.numbers("shape_params", STORED_IDENTITY).astype(np.float32)
        identity = own_identity if identity is None else identity
        check_identity(own_identity, identity, file, "shape_params")
        for frame, state in _read_video(document, root, len(frames)):
            frames.append(frame)
            states.append(state)
            video_of_frame.append(number)
    if len(frames) < 2 or identity is None:
        raise InputError(files[0], "too few frames", key="frames", expected="two or more", actual=len(frames))
    return Capture(
        root=root,
        name=root.name,
        head_model=HeadModelRef(FLAME_2020),
        identity=torch.from_numpy(pad_zeros(identity, NUM_IDENTITY)),
        static_offset=None,
        track=join_states(states, [f.image_path or root for f in frames]),
        frames=tuple(frames),
        splits=_splits([f.parent.name for f in files], video_of_frame, frames),
        format="imavatar",
    )


def _read_video(document: JsonObject, root: Path, first_timestep: int) -> Iterator[tuple[Frame, HeadState]]:
    """Frames and head states of a video in natural order of the images' names."""
    intrinsics = _read_intrinsics(document)
    records = sorted(document.children("frames"), key=lambda record: natural_key(str(record.path("file_path"))))
    if not records:
        raise InputError(document.source, "the video is empty", key="frames", expected="frames", actual=0)
    for number, record in enumerate(progress(records, f"Reading {document.source.parent.name}")):
        frame = _read_frame(record, root, intrinsics, first_timestep + number)
        check_images(frame)
        yield frame, _read_state(record)


def _video_files(root: Path) -> list[Path]:
    names = [FILE_NAME] if (root / FILE_NAME).exists() else [f"{p.parent.name}/{FILE_NAME}" for p in _below(root)]
    if not names:
        raise InputError(root, "no video with FLAME parameters", expected=f"VIDEO/{FILE_NAME}", actual="none")
    return [path_inside(root, root, name, root) for name in names]


def _below(root: Path) -> list[Path]:
    """Parameter files of the folders that are not hidden, in natural order."""
    files = [path for path in root.glob(f"*/{FILE_NAME}") if not path.parent.name.startswith(".")]
    return sorted(files, key=lambda path: natural_key(path.parent.name))


def _splits(names: Sequence[str], video_of_frame: Sequence[int], frames: Sequence[Frame]) -> dict[str, tuple[int, ...]]:
    if len(names) == 1:
        return dict(split_off_last(len(frames)))
    tested = {i for i, name in enumerate(names) if "test" in name.lower()} or {len(names) - 1}
    if len(tested) == len(names):
        tested = {len(names) - 1}
    pick = lambda held_out: tuple(i for i, v in enumerate(video_of_frame) if (v in tested) == held_out)  # noqa: E731
    return {"train": pick(False), "val": (), "test": pick(True)}


def _read_intrinsics(document: JsonObject) -> _Intrinsics:
    values = document.numbers("intrinsics", 4)
    if values[3] > 1:
        values = values / _PIXELS
    fl_x, fl_y, cx, cy = values.tolist()
    if not (0.1 < abs(fl_x) < MAX_FOCAL and 0.1 < abs(fl_y) < MAX_FOCAL):
        raise document.error("intrinsics", "focal lengths as shares of the image's size", values.tolist())
    return _Intrinsics(abs(fl_x), abs(fl_y), cx, cy, -float(np.sign(fl_x)))


def _read_frame(record: JsonObject, root: Path, intrinsics: _Intrinsics, timestep: int) -> Frame:
    image = record.file("file_path", root, suffix=".png")
    mask = path_inside(root, record.source.parent, f"mask/{image.name}", record.source, record.key("file_path"))
    masked = (record.source.parent / "mask").exists()
    if masked:
        require_file(mask, record.source, record.key("file_path"))
    width, height = read_header(image)[:2]
    camera = Camera(
        _camera_to_world(record, intrinsics.x_sign),
        intrinsics.fl_x * width,
        intrinsics.fl_y * height,
        intrinsics.cx * width,
        intrinsics.cy * height,
        width,
        height,
    )
    return Frame(timestep, 0, camera, image, mask if masked else None)


def _camera_to_world(record: JsonObject, x_sign: float) -> np.ndarray:
    T_camera_world = np.eye(4)
    T_camera_world[:3] = record.numbers("world_mat", 3, 4)
    T_camera_world[0] *= x_sign
    T_camera_world[:3, 3] /= FLAME_SCALE
    check_camera_to_world(T_camera_world, record.source, record.key("world_mat"))
    return np.linalg.inv(T_camera_world)


def _read_state(record: JsonObject) -> HeadState:
    pose = record.numbers("pose", 15)
    expression = pad_zeros(record.numbers("expression", STORED_EXPR), NUM_EXPR)
    return make_state(expression, rotation=pose[:3], neck=pose[3:6], jaw=pose[6:9], eyes=pose[9:])


def looks_like_imavatar(root: Path) -> bool:
    """Whether the folder or one of its subfolders contains the parameters of a video."""
    return (root / FILE_NAME).is_file() or bool(_below(root))
