"""Reader for INSTA's export of metrical-tracker: `transforms*.json`, RGBA images, one posed mesh per frame.

The head stays still and the camera moves. `transform_matrix` is camera-to-world in OpenCV axes. Expressions are text
files. Identity, jaw and eyes are not exported. They are read from the tracker's `.frame` files if those are in the
folder, else from text files that a patched exporter writes. Otherwise they are fitted to the meshes, which needs the
head model, FLAME 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from partnerface_ns.capture.cameras import OPENCV_TO_OPENGL, check_camera_to_world, read_intrinsics
from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.capture.images import check_images
from partnerface_ns.capture.json_object import JsonObject
from partnerface_ns.capture.mesh_fit import fit_identity, fit_jaw_and_eyes, read_obj_verts
from partnerface_ns.capture.metrical_tracker import (
    EYELIDS_NOTE,
    FLAME_2020,
    FOLDER,
    NUM_EXPR,
    NUM_IDENTITY,
    read_frame_file,
    read_rotations,
)
from partnerface_ns.capture.parameters import check_identity, join_states, make_state, pad_zeros, read_vector
from partnerface_ns.capture.splits import split_off_last
from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import natural_key, path_inside, require_file
from partnerface_ns.common.progress import progress
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera

MAX_DISTANCE = 0.001
"""Largest mean distance in metres of a fitted head from its mesh."""
_SPLITS = ("train", "val", "test")
_TXT_FOLDER = "flame"
_MAX_TXT_BYTES = 64 << 10


@dataclass(frozen=True)
class _Parameters:
    identity: np.ndarray
    states: HeadState
    notes: tuple[str, ...]


def read_insta(root: Path, load_head: Callable[[], HeadModel]) -> Capture:
    """Read and check an export.

    Args:
        root: the folder.
        load_head: returns the head model. It is called only if parameters must be fitted to meshes.

    Raises:
        InputError: a file cannot be used. Names the file and the reason.
    """
    documents = _read_documents(root)
    unique, names_by_split = _frames_by_name(documents)
    names = sorted(unique, key=lambda name: natural_key(str(name)))
    intrinsics = next(iter(documents.values()))
    frames = tuple(_frame(unique[name], intrinsics, root, t) for t, name in enumerate(names))
    if len(frames) < 2:
        raise InputError(intrinsics.source, "too few frames", key="frames", expected="two or more", actual=len(frames))
    for frame in progress(frames, "Checking images"):
        check_images(frame)
    parameters = _parameters(root, [unique[name] for name in names], load_head)
    position = {name: i for i, name in enumerate(names)}
    splits = {split: tuple(position[name] for name in names_by_split.get(split, ())) for split in _SPLITS}
    return Capture(
        root=root,
        name=root.name,
        head_model=HeadModelRef(FLAME_2020),
        identity=torch.from_numpy(parameters.identity),
        static_offset=None,
        track=parameters.states,
        frames=frames,
        splits=splits if "train" in documents else split_off_last(len(frames)),
        format="insta",
        notes=parameters.notes,
    )


def _read_documents(root: Path) -> dict[str, JsonObject]:
    """The split files; without any, the file of all frames."""
    present = [split for split in _SPLITS if (root / f"transforms_{split}.json").exists()]
    if "train" not in present:
        return {"all": JsonObject.read(path_inside(root, root, "transforms.json", root))}
    documents = {s: JsonObject.read(path_inside(root, root, f"transforms_{s}.json", root)) for s in present}
    for split in ("train", "test"):
        if split not in documents or not documents[split].children("frames"):
            raise InputError(root / f"transforms_{split}.json", "the split is empty", expected="frames", actual=0)
    return documents


def _frames_by_name(
    documents: Mapping[str, JsonObject],
) -> tuple[dict[PurePosixPath, JsonObject], dict[str, list[PurePosixPath]]]:
    """Frames of all splits by their image's name, and the names in each split."""
    unique: dict[PurePosixPath, JsonObject] = {}
    names: dict[str, list[PurePosixPath]] = {}
    for split, document in documents.items():
        frames = document.children("frames")
        names[split] = [frame.path("file_path") for frame in frames]
        for name, frame in zip(names[split], frames, strict=True):
            if unique.setdefault(name, frame).values != frame.values:
                raise frame.error("file_path", "the same values wherever an image is listed", name)
    return unique, names


def _frame(record: JsonObject, document: JsonObject, root: Path, timestep: int) -> Frame:
    matrix = record.numbers("transform_matrix", 4, 4)
    check_camera_to_world(matrix, record.source, record.key("transform_matrix"))
    camera = Camera(matrix @ OPENCV_TO_OPENGL, *read_intrinsics(record if record.has("fl_x") else document))
    return Frame(timestep, 0, camera, record.file("file_path", root), None)


def _parameters(root: Path, records: Sequence[JsonObject], load_head: Callable[[], HeadModel]) -> _Parameters:
    stems = [record.path("file_path").stem for record in records]
    if (root / FOLDER / f"{stems[0]}.frame").exists():
        return _from_frame_files(root, stems)
    if (root / _TXT_FOLDER / "jaw" / f"{stems[0]}.txt").exists():
        return _from_text_files(root, stems)
    return _from_meshes(root, records, stems, load_head())


def _from_frame_files(root: Path, stems: Sequence[str]) -> _Parameters:
    paths = [path_inside(root, root, f"{FOLDER}/{stem}.frame", root) for stem in stems]
    tracked = []
    for path in progress(paths, "Reading tracked frames"):
        tracked.append(read_frame_file(path))
        check_identity(tracked[-1].identity, tracked[0].identity, path, "shape")
    notes = (EYELIDS_NOTE,) if any(t.blinks for t in tracked) else ()
    return _Parameters(tracked[0].identity, join_states([t.state for t in tracked], paths), notes)


def _from_text_files(root: Path, stems: Sequence[str]) -> _Parameters:
    states, identity, blinks, paths = [], None, False, []
    for stem in progress(stems, "Reading parameters"):
        path = _txt_path(root, "shape", stem)
        own_identity = pad_zeros(_read_txt(path, (NUM_IDENTITY, 100)), NUM_IDENTITY)
        identity = own_identity if identity is None else identity
        check_identity(own_identity, identity, path, "shape")
        states.append(
            make_state(_expression(root, stem), jaw=_rotations(root, "jaw", stem), eyes=_rotations(root, "eyes", stem))
        )
        paths.append(path)
        if (root / _TXT_FOLDER / "eyelids" / f"{stem}.txt").exists():
            blinks = blinks or bool(_read_txt(_txt_path(root, "eyelids", stem), (2,)).any())
    assert identity is not None
    return _Parameters(identity, join_states(states, paths), (EYELIDS_NOTE,) if blinks else ())


def _from_meshes(root: Path, records: Sequence[JsonObject], stems: Sequence[str], head: HeadModel) -> _Parameters:
    if head.num_expr != NUM_EXPR:
        raise InputError(root, "not FLAME", expected=f"{NUM_EXPR} expression directions", actual=head.num_expr)
    paths = [record.file("mesh_path", root) for record in records]
    expressions = [make_state(_expression(root, stem)) for stem in stems]
    canonical = read_obj_verts(path_inside(root, root, "canonical.obj", root), head.num_verts)
    identity = fit_identity(head, canonical)
    shaped = ShapedHead.of(head, torch.from_numpy(identity))
    meshes = (read_obj_verts(path, head.num_verts) for path in progress(paths, "Fitting to meshes"))
    states, distances = fit_jaw_and_eyes(shaped, HeadState.stack(expressions), meshes)
    worst = int(distances.argmax())
    if distances[worst] > MAX_DISTANCE:
        raise InputError(
            paths[worst],
            f"the head model {head.name} does not explain the mesh",
            expected=f"vertices within {1000 * MAX_DISTANCE:g} mm on average",
            actual=f"{1000 * distances[worst]:.1f} mm",
            hint="give the FLAME file (of 2020) that the tracker used",
        )
    note = "identity, jaw and eyes were fitted to the meshes: vertices are off by {:.2f} mm on average, {:.2f} at worst"
    return _Parameters(identity, states, (note.format(1000 * distances.mean(), 1000 * distances.max()),))


def _expression(root: Path, stem: str) -> np.ndarray:
    return pad_zeros(_read_txt(_txt_path(root, "exp", stem), (NUM_EXPR, 50)), NUM_EXPR)


def _rotations(root: Path, key: str, stem: str) -> np.ndarray:
    """Axis-angle of jaw or eyes, from three or six numbers per rotation."""
    path, count = _txt_path(root, key, stem), {"jaw": 1, "eyes": 2}[key]
    values = _read_txt(path, (3 * count, 6 * count))
    return values if len(values) == 3 * count else read_rotations({key: values}, key, count, path)


def _txt_path(root: Path, key: str, stem: str) -> Path:
    return path_inside(root, root, f"{_TXT_FOLDER}/{key}/{stem}.txt", root)


def _read_txt(path: Path, counts: tuple[int, ...]) -> np.ndarray:
    """Numbers of a text file. Their count must be one of `counts`."""
    require_file(path, max_bytes=_MAX_TXT_BYTES)
    try:
        values = np.array(path.read_bytes().split(), dtype=np.float64)
    except ValueError as error:
        raise InputError(path, "not a list of numbers", actual=shorten(error)) from error
    if len(values) not in counts:
        raise InputError(path, "wrong number of values", expected=" or ".join(map(str, counts)), actual=len(values))
    return read_vector({path.stem: values}, path.stem, len(values), path)


def looks_like_insta(root: Path) -> bool:
    """Whether the frames of a transforms file have meshes."""
    for name in ("transforms_train.json", "transforms.json"):
        if (root / name).is_file():
            frames = JsonObject.read(path_inside(root, root, name, root)).children("frames")
            return any("mesh_path" in frame.values or "exp_path" in frame.values for frame in frames)
    return False
