"""Two trackings of the same video, by the avatars that were trained on them, on the same pixels.

Each avatar shows the test frames of both captures from its own cameras and head states. Both are compared with the same
images and in the same regions: those of each capture in turn, so that neither tracker chooses the pixels alone.

    partnerface bench --output runs --subjects A B --variants two-stage --seconds 600 --seeds 1 --keep-avatars
    python scripts/compare_trackings.py --subjects A B --avatars runs/avatars/A-*.pt runs/avatars/B-*.pt
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

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
from partnerface_ns.rendering.metrics import image_metrics, metric_regions


@dataclass
class Compare:
    """Print a table: whose images and regions, whose avatar, mean metrics."""

    subjects: tuple[Path, Path]
    """Capture folders of the same images: as many frames, of the same size."""
    avatars: tuple[Path, Path]
    """Avatar files, one trained on each."""
    num_test: int = 40
    """Frames, evenly spread over the test split."""


def main(options: Compare) -> None:
    captures = [load_capture(folder) for folder in options.subjects]
    if captures[0].splits["test"] != captures[1].splits["test"]:
        raise InputError(options.subjects[1], "holds other frames out than the first capture")
    chosen = [pick_evenly(capture.frames_of("test"), options.num_test) for capture in captures]
    images = []
    for capture, avatar, frames in zip(captures, options.avatars, chosen, strict=True):
        player = load(avatar)
        images.append(
            [player.render(f.camera, capture.track[f.timestep])["rgb"] for f in progress(frames, "Rendering")]
        )
    print("| images and regions of | avatar of | " + " | ".join(COLUMNS) + " |")
    print("|---" * (2 + len(COLUMNS)) + "|")
    for judge, judging in zip(options.subjects, captures, strict=True):
        truths, regions = _truths_and_regions(judging, options.num_test)
        for owner, shown in zip(options.subjects, images, strict=True):
            rows = [image_metrics(*row) for row in zip(shown, truths, regions, strict=True)]
            means = [f"{np.nanmean([row[name] for row in rows]):.3f}" for name in COLUMNS]
            print(f"| {judge.name} | {owner.name} | " + " | ".join(means) + " |")


def _truths_and_regions(capture: Capture, num: int) -> tuple[list[torch.Tensor], list]:
    model = resolve_head_model(capture, None)
    head = ShapedHead.of(model, capture.identity, capture.static_offset)
    frames = pick_evenly(capture.frames_of("test"), num)
    truths = [
        torch.from_numpy(load_image(frame, capture.background or (1.0, 1.0, 1.0))[0]).float() / 255 for frame in frames
    ]
    return truths, [metric_regions(head.pose(capture.track[f.timestep]).verts, model, f.camera) for f in frames]


if __name__ == "__main__":
    main(tyro.cli(Compare, description=__doc__))
