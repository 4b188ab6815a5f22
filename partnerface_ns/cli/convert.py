"""`partnerface convert`: write a capture in another layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from partnerface_ns.capture.names import CaptureFormat, FixName, WrittenFormat
from partnerface_ns.common.command_lines import command
from partnerface_ns.common.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from jaxtyping import Float

    from partnerface_ns.capture.capture import Capture
    from partnerface_ns.flame.head_model import HeadModel

WHITE = (1.0, 1.0, 1.0)
NUM_COMPARED = 20
"""Frames of each split whose vertices are compared."""


@dataclass
class Convert:
    """Write a capture in another layout: this project's own (vhap), or one that INSTA or IMAvatar trains on.

    vhap keeps everything. INSTA has no neck motion, and vertex offsets only in its meshes. IMAvatar has 50 expression
    and 100 identity coefficients. The command measures how far the vertices of the written capture are off. Frames with
    an impossible head state are left out. The head model is not written.
    """

    dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Folder of the capture, in any supported layout."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """New folder to write."""
    to: WrittenFormat = "vhap"
    """Layout to write."""
    format: CaptureFormat | None = None
    """Layout of the capture; by default it is recognised by the contents of the folder."""
    head_model: Path | None = None
    """Head model file (.npz, or FLAME's .pkl), or `open-head`; by default the one that the folder contains or names."""
    fix: FixName | None = None
    """Convention error to correct, as named by `partnerface inspect`."""

    def __call__(self) -> None:
        from dataclasses import replace

        from partnerface_ns.capture.convention_fixes import apply_fix
        from partnerface_ns.capture.imavatar_writer import write_imavatar
        from partnerface_ns.capture.insta_writer import write_insta
        from partnerface_ns.capture.load_with_head_model import load_with_head_model
        from partnerface_ns.capture.vhap_writer import write_vhap

        capture, model = load_with_head_model(self.dir, self.format, self.head_model)
        if self.fix is not None:
            capture = apply_fix(capture, self.fix)
        _require_images(capture)
        background = capture.background or WHITE
        write = {"vhap": write_vhap, "insta": write_insta, "imavatar": write_imavatar}[self.to]
        write(self.out, replace(capture, background=background), model, _images(capture, background))
        for line in (*capture.remarks, *(f"Warning: {warning}" for warning in capture.warnings)):
            print(f"{capture.name}: {line}")
        print(f"{len(capture.frames)} frames written to {self.out} in the layout {self.to}")
        print(_describe_loss(self.out, capture, model))
        options = () if self.head_model is None else ("--head-model", self.head_model)
        print(f"Next:\n  {command('partnerface', 'inspect', self.out, *options)}")


def _require_images(capture: Capture) -> None:
    if any(frame.image_path is None for frame in capture.frames):
        raise InputError(
            capture.root,
            "the capture has no images",
            expected="an image for every frame",
            hint=f"without images it can still drive an avatar: partnerface drive RUN {capture.root}",
        )


def _images(capture: Capture, background: tuple[float, float, float]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Colours and mask of every frame."""
    from partnerface_ns.capture.images import load_image

    return (load_image(frame, background) for frame in capture.frames)


def _describe_loss(root: Path, capture: Capture, model: HeadModel) -> str:
    """A line on how far vertices move by writing and reading again, in camera coordinates."""
    from partnerface_ns.capture.head_models import check_head_model
    from partnerface_ns.capture.load import load_capture

    try:
        written = load_capture(root)
        check_head_model(written, model)
    except InputError as error:
        return f"The result cannot be measured, because it cannot be read again with this head model: {error.problem}"
    mean, largest = _vertex_distances(capture, written, model)
    return (
        f"After writing and reading, vertices are off by {1000 * mean:.3f} mm on average, {1000 * largest:.3f} at most"
    )


def _vertex_distances(capture: Capture, written: Capture, model: HeadModel) -> tuple[float, float]:
    """Mean and largest distance in metres of corresponding vertices, in camera coordinates, over some frames."""
    import numpy as np

    apart = np.linalg.norm(_verts_in_camera(capture, model) - _verts_in_camera(written, model), axis=-1)
    return float(apart.mean()), float(apart.max())


def _verts_in_camera(capture: Capture, model: HeadModel) -> Float[np.ndarray, "frames verts 3"]:
    """Vertices of some frames of each split, in the coordinates of their camera."""
    import numpy as np

    from partnerface_ns.capture.overlap import posed_verts
    from partnerface_ns.common.sequences import pick_evenly

    frames = [frame for split in ("train", "test") for frame in pick_evenly(capture.frames_of(split), NUM_COMPARED)]
    posed = zip(posed_verts(capture, model, frames), (frame.camera.T_world_camera for frame in frames), strict=True)
    return np.stack([(verts - T[:3, 3]) @ T[:3, :3] for verts, T in posed])
