"""`partnerface convert`: a capture in another layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from partnerface_ns.capture.names import CaptureFormat, FixName, WrittenFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from partnerface_ns.capture.capture import Capture
    from partnerface_ns.flame.head_model import HeadModel

WHITE = (1.0, 1.0, 1.0)


@dataclass
class Convert:
    """Write a capture in another layout: this project's own, or one that a peer trains on.

    Own (vhap) keeps everything. INSTA's has no neck motion and no vertex offsets outside of its meshes; IMAvatar's has
    50 expression and 100 identity coefficients. How far the written vertices are off is measured and said. No head
    model is written along.
    """

    dir: Annotated[Path, tyro.conf.Positional]
    """The capture's folder, in any layout that is read."""
    out: Annotated[Path, tyro.conf.Positional]
    """The new folder."""
    to: WrittenFormat = "vhap"
    """Layout to write."""
    format: CaptureFormat | None = None
    """Layout of the capture; by default it is recognised."""
    head_model: Path | None = None
    """Head model file (.npz, or FLAME's .pkl), or `open-head`; by default the one in the folder, or that it names."""
    fix: FixName | None = None
    """A mistake of convention to undo, as `partnerface inspect` names it."""

    def __call__(self) -> None:
        from dataclasses import replace

        from partnerface_ns.capture.convention_fixes import apply_fix
        from partnerface_ns.capture.head_models import resolve_head_model
        from partnerface_ns.capture.imavatar_writer import write_imavatar
        from partnerface_ns.capture.insta_writer import write_insta
        from partnerface_ns.capture.load import load_capture
        from partnerface_ns.capture.vhap_writer import write_vhap

        capture = load_capture(self.dir, self.format, self.head_model)
        model = resolve_head_model(capture, self.head_model)
        if self.fix is not None:
            capture = apply_fix(capture, self.fix)
        _require_images(capture)
        background = capture.background or WHITE
        write = {"vhap": write_vhap, "insta": write_insta, "imavatar": write_imavatar}[self.to]
        write(self.out, replace(capture, background=background), model, _images(capture, background))
        for remark in capture.remarks:
            print(f"{capture.name}: {remark}")
        print(f"written to {self.out}: {len(capture.frames)} frames in the layout {self.to}")
        print(_loss(self.out, capture, model))


def _require_images(capture: Capture) -> None:
    from partnerface_ns.common.errors import InputError

    if any(frame.image_path is None for frame in capture.frames):
        raise InputError(capture.root, "has no images to write", hint="it drives an avatar as it is")


def _images(capture: Capture, background: tuple[float, float, float]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from partnerface_ns.capture.images import load_image

    return (load_image(frame, background) for frame in capture.frames)


def _loss(root: Path, capture: Capture, model: HeadModel) -> str:
    """How far vertices move by writing and reading again, before the cameras."""
    from partnerface_ns.capture.head_models import check_head_model
    from partnerface_ns.capture.load import load_capture
    from partnerface_ns.common.errors import InputError

    try:
        again = load_capture(root)
        check_head_model(again, model)
    except InputError as error:
        return f"it cannot be read again with this head model: {error.problem}"
    mean, worst = _distances(capture, again, model)
    return f"read again, vertices are off by {1000 * mean:.3f} mm on average, {1000 * worst:.3f} at worst"


def _distances(capture: Capture, again: Capture, model: HeadModel) -> tuple[float, float]:
    """Mean and largest distance of the vertices before the cameras over some frames of each split, metres."""
    import numpy as np

    from partnerface_ns.capture.overlap import posed_verts
    from partnerface_ns.common.sequences import pick_evenly

    def seen(of: Capture) -> np.ndarray:
        frames = [frame for split in ("train", "test") for frame in pick_evenly(of.frames_of(split), 20)]
        placed = zip(posed_verts(of, model, frames), (frame.camera.T_world_camera for frame in frames), strict=True)
        return np.stack([(verts - T[:3, 3]) @ T[:3, :3] for verts, T in placed])

    apart = np.linalg.norm(seen(capture) - seen(again), axis=-1)
    return float(apart.mean()), float(apart.max())
