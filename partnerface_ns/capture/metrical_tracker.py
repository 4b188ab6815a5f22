"""Reader for the output of metrical-tracker: `checkpoint/%05d.frame` and `input/%05d.png`.

The head stays still and the camera moves: global rotation, neck rotation and translation are zero. Poses are
world-to-camera in OpenCV axes. Jaw and eyes have six numbers per rotation. Expression and identity are those of FLAME
2020. Eyelid coefficients are left out, because FLAME has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from partnerface_ns.capture.cameras import OPENCV_TO_OPENGL, check_camera_to_world, intrinsics_from_matrix
from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.capture.images import MAX_SIDE, check_images
from partnerface_ns.capture.names import CaptureFormat
from partnerface_ns.capture.parameters import (
    check_identity,
    join_states,
    make_state,
    pad_zeros,
    read_array,
    read_numbers,
    read_vector,
)
from partnerface_ns.capture.rotations import axis_angle_from_6d
from partnerface_ns.capture.splits import split_at_share
from partnerface_ns.capture.torch_file import array_group, read_torch_file
from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import list_files, path_inside, require_file
from partnerface_ns.common.progress import progress
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera

FOLDER = "checkpoint"
FLAME_2020 = "FLAME 2020"
NUM_IDENTITY, NUM_EXPR = 300, 100
EYELIDS_NOTE = "eyelid coefficients are not used: FLAME has none, the avatar learns blinks from what remains"


@dataclass(frozen=True)
class TrackedFrame:
    """The content of one `.frame` file."""

    identity: np.ndarray
    state: HeadState
    camera: Camera
    blinks: bool
    """Whether any eyelid coefficient is not zero."""


def read_metrical_tracker(root: Path) -> Capture:
    """Read and check a tracker's output folder.

    Raises:
        InputError: a file cannot be used. Names the file and the reason.
    """
    return read_frame_files(root, "metrical-tracker", lambda number, stem: (f"input/{stem}.png", None))


def read_frame_files(
    root: Path, layout: CaptureFormat, image_names: Callable[[int, str], tuple[str, str | None]]
) -> Capture:
    """Read a folder of `.frame` files and its images.

    Args:
        root: the folder.
        layout: its layout.
        image_names: maps number and stem of a `.frame` file to the names of its image and its mask, if it has one.

    Raises:
        InputError: a file cannot be used. Names the file and the reason.
    """
    paths = list_frame_files(root)
    tracked, frames = [], []
    for timestep, path in enumerate(progress(paths, "Reading tracked frames")):
        tracked.append(read_frame_file(path_inside(root, root, f"{FOLDER}/{path.name}", root)))
        check_identity(tracked[-1].identity, tracked[0].identity, path, "shape")
        image_name, mask_name = image_names(int(path.stem), path.stem)
        image = path_inside(root, root, image_name, root)
        mask = None if mask_name is None else path_inside(root, root, mask_name, root)
        for file in filter(None, (image, mask)):
            require_file(file, path)
        frames.append(Frame(timestep, 0, tracked[-1].camera, image, mask))
        check_images(frames[-1])
    return Capture(
        root=root,
        name=root.name,
        head_model=HeadModelRef(FLAME_2020),
        identity=torch.from_numpy(tracked[0].identity),
        static_offset=None,
        track=join_states([t.state for t in tracked], paths),
        frames=tuple(frames),
        splits=split_at_share(len(frames)),
        format=layout,
        notes=(EYELIDS_NOTE,) if any(t.blinks for t in tracked) else (),
    )


def list_frame_files(root: Path) -> list[Path]:
    """The `.frame` files in the order of their numbers.

    Raises:
        InputError: fewer than two files, or a name is not a number.
    """
    paths = list_files(root / FOLDER, [".frame"]) if (root / FOLDER).is_dir() else []
    for path in paths:
        if not path.stem.isdecimal():
            raise InputError(path, "a frame's name is its number", expected="like 00012.frame", actual=path.name)
    if len(paths) < 2:
        raise InputError(root / FOLDER, "too few frames", expected="two .frame files or more", actual=len(paths))
    require_different_numbers(paths)
    return paths


def require_different_numbers(paths: Sequence[Path]) -> None:
    """Check that no two files have the same number (such as 1 and 01). The files are sorted by number.

    Raises:
        InputError: two have the same number. Names both.
    """
    for path, following in pairwise(paths):
        if int(path.stem) == int(following.stem):
            raise InputError(following, "two files have the same number", actual=path.name)


def read_frame_file(path: Path) -> TrackedFrame:
    """Read and check one file.

    Raises:
        InputError: names file, key and fault.
    """
    content = read_torch_file(path)
    flame, opencv = array_group(content, "flame", path), array_group(content, "opencv", path)
    eyelids = flame.get("eyelids")
    return TrackedFrame(
        identity=pad_zeros(read_vector(flame, "shape", None, path), NUM_IDENTITY),
        state=make_state(
            pad_zeros(read_vector(flame, "exp", None, path), NUM_EXPR),
            jaw=read_rotations(flame, "jaw", 1, path),
            eyes=read_rotations(flame, "eyes", 2, path),
        ),
        camera=_camera(opencv, _size(content, path), path),
        blinks=eyelids is not None and bool(np.any(read_numbers(flame, "eyelids", path))),
    )


def read_rotations(arrays: dict[str, np.ndarray], key: str, count: int, source: Path) -> Float[np.ndarray, "numbers"]:
    """Read rotations of six numbers each and return their concatenated axis-angle vectors.

    Raises:
        InputError: missing, wrong shape, or not rotations.
    """
    vectors = axis_angle_from_6d(read_vector(arrays, key, 6 * count, source).astype(np.float64).reshape(count, 6))
    if not np.isfinite(vectors).all():
        raise InputError(source, "not a rotation", key=key, expected="two rows that are not parallel")
    return vectors.reshape(-1)


def _size(content: dict, path: Path) -> tuple[int, int]:
    """Height and width of the images."""
    try:
        height, width = (int(side) for side in np.asarray(content.get("img_size"), dtype=np.float64).reshape(2))
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            path, "wrong value", key="img_size", expected="height and width", actual=shorten(error)
        ) from error
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise InputError(path, "wrong value", key="img_size", expected=f"1 to {MAX_SIDE}", actual=(height, width))
    return height, width


def _camera(opencv: dict[str, np.ndarray], size: tuple[int, int], path: Path) -> Camera:
    T_camera_world = np.eye(4)
    T_camera_world[:3, :3] = read_array(opencv, "R", (3, 3), path)
    T_camera_world[:3, 3] = read_array(opencv, "t", (3,), path)
    check_camera_to_world(T_camera_world, path, "opencv.R")
    intrinsics = intrinsics_from_matrix(read_array(opencv, "K", (3, 3), path), path, "opencv.K")
    T_world_camera = np.linalg.inv(T_camera_world) @ OPENCV_TO_OPENGL
    height, width = size
    return Camera(T_world_camera, *intrinsics, width, height)


def looks_like_metrical_tracker(root: Path) -> bool:
    """Whether the folder contains the tracker's checkpoints and images."""
    return (root / FOLDER).is_dir() and bool(list_files(root / FOLDER, [".frame"])) and (root / "input").is_dir()
