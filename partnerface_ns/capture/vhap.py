"""Reader for the layout of VHAP and GaussianAvatars, which this project writes by default.

A capture is a folder with `transforms_{train,val,test}.json`, `images/`, `fg_masks/` and `flame_param/`. Poses are
camera-to-world in OpenGL axes. Every frame has its own intrinsics. Timesteps are the distinct parameter files in order
of their index, renumbered from 0. A combined set (`UNION*`) contains only the three split files, which refer to
neighbouring folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from partnerface_ns.capture.cameras import read_camera
from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.capture.images import check_images, detect_background
from partnerface_ns.capture.json_object import JsonObject
from partnerface_ns.capture.parameters import check_identity, join_states, make_state, read_numbers, read_vector
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import natural_key, path_inside, require_file
from partnerface_ns.common.npz_file import read_npz
from partnerface_ns.common.progress import progress
from partnerface_ns.flame.state import HeadState

SPLITS = ("train", "val", "test")
PARAMETER_FOLDER = "flame_param"
HEAD_MODEL_NAME = "head_model.npz"
"""Name of a head model in the capture's folder."""
TORSO_KEYS = ("torso_rotation", "torso_translation")
"""Arrays of `HeadState.torso`, which VHAP's layout does not have."""
NUM_FLAME_VERTS = 5023
_VERTS_WITH_TEETH = (5143, 5083)
"""Vertex counts of trackers that append teeth to FLAME."""


@dataclass(frozen=True)
class _Entry:
    """A frame in a split file."""

    frame: JsonObject
    intrinsics: JsonObject
    params: Path
    timestep_index: int
    camera_index: int

    @property
    def timestep_key(self) -> tuple[int, str]:
        """Equal for frames of one timestep; sorts by time."""
        return self.timestep_index, str(self.params)

    @property
    def identity(self) -> tuple[str, int, str]:
        return str(self.params), self.camera_index, str(self.frame.path("file_path"))


def read_vhap(root: Path) -> Capture:
    """Read and check a capture. Images are checked but not decoded.

    Raises:
        InputError: a file cannot be used. Names the file and the reason.
    """
    boundary = root.parent if root.name.startswith("UNION") else root
    skipped: dict[str, str] = {}
    documents = _read_split_files(root)
    listed = {split: _entries(document, boundary, skipped) for split, document in documents.items()}
    for split in ("train", "test"):
        if not listed[split]:
            raise InputError(_split_path(root, split), "the split is empty", key="frames", expected="frames", actual=0)
    unique = {entry.identity: entry for entries in listed.values() for entry in entries}
    in_time = sorted({entry.timestep_key for entry in unique.values()}, key=lambda m: (m[0], natural_key(m[1])))
    timesteps = {key: timestep for timestep, key in enumerate(in_time)}
    frames, background = _frames(list(unique.values()), timesteps, boundary, documents["train"])
    position = {identity: i for i, identity in enumerate(unique)}
    tracked = _read_track([Path(params) for _, params in timesteps])
    return Capture(
        root=root,
        name=root.name,
        head_model=_head_model_ref(root, list(documents.values())),
        identity=tracked.identity,
        static_offset=tracked.static_offset,
        track=tracked.states,
        frames=frames,
        splits={split: tuple(position[entry.identity] for entry in listed.get(split, ())) for split in SPLITS},
        skipped=skipped,
        background=background,
        format="vhap",
        notes=tracked.notes,
    )


def _split_path(root: Path, split: str) -> Path:
    return root / f"transforms_{split}.json"


def _read_split_files(root: Path) -> dict[str, JsonObject]:
    """The split files. The one of val is optional."""
    wanted = [split for split in SPLITS if split != "val" or _split_path(root, split).exists()]
    return {split: JsonObject.read(path_inside(root, root, _split_path(root, split).name, root)) for split in wanted}


def _entries(document: JsonObject, boundary: Path, skipped: dict[str, str]) -> list[_Entry]:
    """Frames of a split in order of the file. Frames without parameters are added to `skipped`."""
    entries: list[_Entry] = []
    for record in document.children("frames"):
        if not record.has("flame_param_path"):
            skipped[record.text("file_path")] = "no face was found"
            continue
        entries.append(
            _Entry(
                record,
                record if record.has("fl_x") else document,
                record.file("flame_param_path", boundary),
                record.index("timestep_index"),
                record.index("camera_index") if record.has("camera_index") else 0,
            )
        )
    return entries


def _frames(
    entries: Sequence[_Entry], timesteps: Mapping[tuple[int, str], int], boundary: Path, document: JsonObject
) -> tuple[tuple[Frame, ...], tuple[float, float, float] | None]:
    """All frames after checking their images, and the colour that they are composited on."""
    frames = []
    for entry in progress(entries, "Checking images"):
        record = entry.frame
        frame = Frame(
            timesteps[entry.timestep_key],
            entry.camera_index,
            read_camera(entry.intrinsics, record),
            record.file("file_path", boundary),
            record.file("fg_mask_path", boundary) if record.has("fg_mask_path") else None,
        )
        check_images(frame)
        frames.append(frame)
    color = _written_background(document) if "background" in document.values else detect_background(frames[0])
    if color is None:
        return tuple(frames), None
    return tuple(replace(frame, composited=True) for frame in frames), color


def _written_background(document: JsonObject) -> tuple[float, float, float] | None:
    """The background that this project's writer stores; null if images have their own background."""
    if not document.has("background"):
        return None
    red, green, blue = document.numbers("background", 3).tolist()
    if not 0 <= min(red, green, blue) <= max(red, green, blue) <= 1:
        raise document.error("background", "a colour, 0 to 1 each", f"{red:g}, {green:g}, {blue:g}")
    return red, green, blue


@dataclass(frozen=True)
class _Tracked:
    identity: torch.Tensor
    static_offset: torch.Tensor | None
    states: HeadState
    notes: tuple[str, ...]


def _read_track(paths: Sequence[Path]) -> _Tracked:
    """Read the head states of all timesteps from one file each."""
    states, first, offset, dynamic = [], None, None, False
    for path in progress(paths, "Reading head states"):
        arrays = read_npz(path)
        identity = read_vector(arrays, "shape", None, path)
        this_offset = static_offset(arrays, path)
        if first is None:
            first, offset = identity, this_offset
        check_identity(identity, first, path, "shape")
        if (offset is None) != (this_offset is None):
            raise InputError(path, "only some frames have it", key="static_offset", expected="all frames, or none")
        if offset is not None and this_offset is not None:
            check_identity(this_offset.numpy(), offset.numpy(), path, "static_offset")
        states.append(_state(arrays, path))
        dynamic = dynamic or ("dynamic_offset" in arrays and bool(read_numbers(arrays, "dynamic_offset", path).any()))
    assert first is not None
    notes = ("dynamic_offset (vertex offsets of single frames) is not used",) if dynamic else ()
    return _Tracked(torch.from_numpy(first), offset, join_states(states, paths), notes)


def _state(arrays: dict[str, np.ndarray], path: Path) -> HeadState:
    return make_state(
        read_vector(arrays, "expr", None, path),
        read_vector(arrays, "rotation", 3, path),
        read_vector(arrays, "neck_pose", 3, path),
        read_vector(arrays, "jaw_pose", 3, path),
        read_vector(arrays, "eyes_pose", 6, path),
        read_vector(arrays, "translation", 3, path),
        _torso(arrays, path),
    )


def _torso(arrays: dict[str, np.ndarray], path: Path) -> np.ndarray | None:
    """The torso pose that this project's writer adds to the layout; None if there is none."""
    if not any(key in arrays for key in TORSO_KEYS):
        return None
    return np.concatenate([read_vector(arrays, key, 3, path) for key in TORSO_KEYS])


def static_offset(arrays: dict[str, np.ndarray], path: Path) -> torch.Tensor | None:
    """Personal vertex offsets, without the vertices of teeth that some trackers append; None if there are none."""
    if "static_offset" not in arrays:
        return None
    offset = read_numbers(arrays, "static_offset", path)
    if offset.ndim == 3 and offset.shape[0] == 1:
        offset = offset[0]
    if offset.ndim != 2 or offset.shape[1] != 3 or len(offset) == 0:
        raise InputError(
            path, "wrong shape", key="static_offset", expected=(1, "vertices", 3), actual=arrays["static_offset"].shape
        )
    if len(offset) in _VERTS_WITH_TEETH:
        offset = offset[:NUM_FLAME_VERTS]
    return torch.from_numpy(offset.astype(np.float32))


def _head_model_ref(root: Path, documents: Sequence[JsonObject]) -> HeadModelRef:
    """The head model that the split files name and the one in the folder. All split files must name the same."""
    records = [document.child("head_model") for document in documents if document.has("head_model")]
    models = [
        tuple(record.text(key) if record.has(key) else None for key in ("name", "fingerprint")) for record in records
    ]
    for record, model in zip(records, models, strict=True):
        if model != models[0]:
            raise InputError(
                record.source, "another head model than the other splits", expected=models[0], actual=model
            )
    name, fingerprint = models[0] if models else (None, None)
    inside = root / HEAD_MODEL_NAME
    if not inside.exists():
        return HeadModelRef(name, fingerprint)
    path = path_inside(root, root, HEAD_MODEL_NAME, root)
    require_file(path)
    return HeadModelRef(name, fingerprint, path)


def looks_like_vhap(root: Path) -> bool:
    """Whether the folder contains FLAME parameters in VHAP's export format, or split files that refer to some."""
    if (root / PARAMETER_FOLDER).is_dir():
        return True
    path = _split_path(root, "train")
    if not path.exists():
        return False
    frames = JsonObject.read(path_inside(root, root, path.name, root)).children("frames")
    return any("flame_param_path" in frame.values for frame in frames)
