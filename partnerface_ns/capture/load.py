"""Loading a capture of any supported layout. The layout is recognised by the folder's files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from partnerface_ns.capture.capture import Capture
from partnerface_ns.capture.flame_head_tracker import looks_like_flame_head_tracker, read_flame_head_tracker
from partnerface_ns.capture.flashavatar import looks_like_flashavatar, read_flashavatar
from partnerface_ns.capture.head_models import load_named_head_model
from partnerface_ns.capture.held_out import separate_splits
from partnerface_ns.capture.images import read_header
from partnerface_ns.capture.imavatar import looks_like_imavatar, read_imavatar
from partnerface_ns.capture.insta import looks_like_insta, read_insta
from partnerface_ns.capture.json_object import JsonObject
from partnerface_ns.capture.metrical_tracker import looks_like_metrical_tracker, read_metrical_tracker
from partnerface_ns.capture.names import CaptureFormat, SplitName
from partnerface_ns.capture.splits import split_by_time
from partnerface_ns.capture.vhap import looks_like_vhap, read_vhap
from partnerface_ns.capture.vhap_tracker import looks_like_vhap_tracker, read_vhap_tracker
from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import natural_key, path_inside
from partnerface_ns.flame.head_model import HeadModel


@dataclass(frozen=True)
class _Layout:
    """One layout of capture folders."""

    files: str
    """The files by which users know it."""
    recognise: Callable[[Path], bool]
    read: Callable[[Path, Path | None], Capture]
    """Reads a folder, with the head model file that the user named."""


_LAYOUTS: dict[CaptureFormat, _Layout] = {
    "vhap": _Layout("transforms_train.json with flame_param_path", looks_like_vhap, lambda root, _: read_vhap(root)),
    "insta": _Layout(
        "transforms.json or transforms_train.json with mesh_path or exp_path",
        looks_like_insta,
        lambda root, head_model: read_insta(root, lambda: _head_for_meshes(root, head_model)),
    ),
    "metrical-tracker": _Layout(
        "checkpoint/*.frame with input/", looks_like_metrical_tracker, lambda root, _: read_metrical_tracker(root)
    ),
    "flashavatar": _Layout(
        "checkpoint/*.frame with imgs/", looks_like_flashavatar, lambda root, _: read_flashavatar(root)
    ),
    "imavatar": _Layout("flame_params.json", looks_like_imavatar, lambda root, _: read_imavatar(root)),
    "vhap-tracker": _Layout(
        "tracked_flame_params*.npz", looks_like_vhap_tracker, lambda root, _: read_vhap_tracker(root)
    ),
    "flame-head-tracker": _Layout(
        "numbered .npz files", looks_like_flame_head_tracker, lambda root, _: read_flame_head_tracker(root)
    ),
}
"""They are tried in this order, because an INSTA export can be in the same folder as the tracker's output."""
_NOT_FLAME = {"expression": "NerFace", "exp_ori": "NeRFBlendShape", "aud_id": "AD-NeRF or RAD-NeRF"}
"""Keys of frames in captures without FLAME parameters, and the project they belong to."""


def load_capture(
    path: Path,
    layout: CaptureFormat | None = None,
    head_model: Path | None = None,
    as_motion: bool = False,
    split: SplitName | None = None,
) -> Capture:
    """Read and check a capture folder.

    Args:
        path: the folder.
        layout: its layout; None recognises it.
        head_model: the head model file. Only INSTA exports without parameters need it here.
        as_motion: whether the capture only drives an avatar; its splits may then share images.
        split: a split by time in place of the capture's own (`splits.py`).

    Raises:
        InputError: the folder does not exist, has an unknown layout, or contains a file that cannot be used.
    """
    root = Path(path)
    try:
        if not root.is_dir():
            problem = "is not a folder" if root.exists() else "the capture folder does not exist"
            actual = "a file" if root.exists() else "nothing"
            raise InputError(root, problem, expected="the folder of a tracked video", actual=actual)
        capture = _add_exif_note(_read(root.resolve(), layout, head_model))
        if as_motion:
            return capture
        return separate_splits(capture if split is None else split_by_time(capture, split))
    except OSError as error:  # no permission, or a failing disk
        raise InputError(shorten(error.filename or root), "cannot be read", actual=error.strerror) from error


def _read(root: Path, layout: CaptureFormat | None, head_model: Path | None) -> Capture:
    return _LAYOUTS[layout or detect_format(root)].read(root, head_model)


def _add_exif_note(capture: Capture) -> Capture:
    """The capture with a note if EXIF rotates its first image; other programs may ignore EXIF."""
    path = capture.frames[0].image_path
    if path is None or (orientation := read_header(path).orientation) == 1:
        return capture
    note = f"images are rotated by their EXIF orientation ({path.name}: {orientation})"
    return replace(capture, notes=(*capture.notes, note))


def detect_format(root: Path) -> CaptureFormat:
    """Recognise the layout of a folder.

    Raises:
        InputError: the layout is unknown, or it is a known layout without FLAME parameters.
    """
    for name, layout in _LAYOUTS.items():
        if layout.recognise(root):
            return name
    _refuse_captures_without_flame(root)
    names = sorted((entry.name for entry in root.iterdir() if not entry.name.startswith(".")), key=natural_key)[:12]
    raise InputError(
        root,
        "no capture layout is recognised in this folder",
        expected="the files of one layout" + "".join(f"\n    {name}: {x.files}" for name, x in _LAYOUTS.items()),
        actual=", ".join(names) or "an empty folder",
        hint="partnerface track VIDEO DIR makes a capture from a raw video",
    )


def _refuse_captures_without_flame(root: Path) -> None:
    for file in sorted(root.glob("transforms*.json"))[:4]:
        document = JsonObject.read(path_inside(root, root, file.name, root))
        frames = document.children("frames") if document.has("frames") else []
        for key, name in _NOT_FLAME.items():
            if frames and key in frames[0].values:
                raise InputError(
                    file,
                    f"this is a capture for {name}, which has no FLAME parameters",
                    key=f"frames[0].{key}",
                    hint="track the video again: partnerface track, VHAP, metrical-tracker or flame-head-tracker",
                )
        if frames and "file_path" in frames[0].values:
            raise InputError(
                file,
                "there are cameras here but no head parameters",
                expected="frames with flame_param_path, mesh_path or exp_path",
                actual=f"keys {', '.join(list(frames[0].values)[:12])}",
                hint="track the video: partnerface track, VHAP, metrical-tracker or flame-head-tracker",
            )


def _head_for_meshes(root: Path, given: Path | None) -> HeadModel:
    if given is None:
        raise InputError(
            root,
            "this INSTA export has meshes but no jaw, eyes and identity: they must be fitted with the head model",
            expected="--head-model FILE (FLAME 2020)",
            actual="none given",
            hint=f"partnerface convert {root} OUT --head-model FILE fits once and writes the result",
        )
    return load_named_head_model(given)
