"""Compares two trackings of the same video by the avatars that were trained on them.

Each avatar renders the test frames with the cameras and head states of its own capture. All renderings are compared
with the images of both captures, in the regions of both, so that neither tracking alone chooses the evaluated pixels.

    partnerface bench --output runs --subjects A B --variants two-stage --seconds 600 --seeds 1 --keep-avatars
    python scripts/compare_trackings.py --subjects A B --avatars runs/avatars/A-*.pt runs/avatars/B-*.pt
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.bench.tables import COLUMNS
from partnerface_ns.capture.capture import Capture
from partnerface_ns.capture.head_models import resolve_head_model
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.load import load_capture
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.progress import progress
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.driving.player import load
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.rendering.metric_regions import metric_regions
from partnerface_ns.rendering.metrics import image_metrics


@dataclass
class Compare:
    """Print a table of mean metrics for each pair of evaluated capture and avatar."""

    subjects: tuple[Path, Path]
    """Two captures of the same images, with equal numbers and sizes of frames."""
    avatars: tuple[Path, Path]
    """Avatar files, one trained on each capture."""
    num_test: int = 40
    """Number of evaluated frames, evenly spread over the test split."""


def main(options: Compare) -> None:
    captures = [load_capture(folder) for folder in options.subjects]
    if captures[0].splits["test"] != captures[1].splits["test"]:
        raise InputError(options.subjects[1], "the test frames differ from those of the first capture")
    test_frames = [pick_evenly(capture.frames_of("test"), options.num_test) for capture in captures]
    renderings = []
    for capture, avatar, frames in zip(captures, options.avatars, test_frames, strict=True):
        player = load(avatar)
        renderings.append(
            [player.render(f.camera, capture.track[f.timestep])["rgb"] for f in progress(frames, "Rendering")]
        )
    print("| images and regions of | avatar of | " + " | ".join(COLUMNS) + " |")
    print("|---" * (2 + len(COLUMNS)) + "|")
    for evaluated, capture in zip(options.subjects, captures, strict=True):
        truths, regions = _truths_and_regions(capture, options.num_test)
        for owner, images in zip(options.subjects, renderings, strict=True):
            rows = [image_metrics(*row) for row in zip(images, truths, regions, strict=True)]
            means = [f"{np.nanmean([row[name] for row in rows]):.3f}" for name in COLUMNS]
            print(f"| {evaluated.name} | {owner.name} | " + " | ".join(means) + " |")


def _truths_and_regions(
    capture: Capture, num: int
) -> tuple[list[Float[Tensor, "rows columns 3"]], list[dict[str, Tensor]]]:
    """Images and metric regions of some test frames."""
    model = resolve_head_model(capture, None)
    head = ShapedHead.of(model, capture.identity, capture.static_offset)
    frames = pick_evenly(capture.frames_of("test"), num)
    truths, regions = [], []
    for frame in frames:
        rgb, mask = load_image(frame, capture.background or (1.0, 1.0, 1.0))
        verts, foreground = head.pose(capture.track[frame.timestep]).verts, torch.from_numpy(mask) > 127
        truths.append(torch.from_numpy(rgb).float() / 255)
        regions.append(metric_regions(verts, model, frame.camera, foreground))
    return truths, regions


if __name__ == "__main__":
    main(tyro.cli(Compare, description=__doc__))
