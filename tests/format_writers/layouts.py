"""Every layout of the same person, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from format_writers.flame_head_tracker import write_flame_head_tracker
from format_writers.imavatar import write_imavatar
from format_writers.insta import write_insta
from format_writers.metrical_tracker import write_flashavatar, write_metrical_tracker
from format_writers.truth import Truth
from format_writers.vhap import write_vhap_export


def _videos(root: Path, truth: Truth) -> Path:
    cut = truth.num_frames * 5 // 8
    return write_imavatar(root, truth, {"first": range(cut), "second": range(cut, truth.num_frames)})


LAYOUTS: dict[str, Callable[[Path, Truth], Path]] = {
    "vhap": write_vhap_export,
    "insta": lambda root, truth: write_insta(root, truth, parameters="txt"),
    "insta-meshes": write_insta,
    "metrical-tracker": write_metrical_tracker,
    "flashavatar": write_flashavatar,
    "imavatar": _videos,
    "flame-head-tracker": lambda root, truth: write_flame_head_tracker(root, truth, list(range(truth.num_frames))),
}
"""Writers by name; each takes a new folder and a person. INSTA is written with parameter files and with meshes only."""
