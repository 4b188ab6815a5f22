"""Measures trained avatars at the head and at its outline, against the images and mattes of several captures.

The captures contain the same frames with the same head states, and differ in images and mattes alone.

    python scripts/measure_outlines.py --avatars out/avatars/*.pt --captures before now
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from partnerface_ns.avatar.file_format import load_avatar
from partnerface_ns.bench.training_runs import measure
from partnerface_ns.capture.load_with_head_model import load_with_head_model
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.flame.posing import ShapedHead


@dataclass
class Measure:
    """Render and compare; prints a table."""

    avatars: tuple[Path, ...]
    """Avatar files, such as `partnerface bench --keep-avatars` writes."""
    captures: tuple[Path, ...]
    """Captures of the same frames."""
    num_test: int = 10
    """Images of the test split."""


def main(options: Measure) -> None:
    torch.set_num_threads(1)
    print("| avatar | measured against | psnr_head | psnr_outline |\n|---|---|---|---|")
    for path in options.avatars:
        avatar, _ = load_avatar(path)
        for folder in options.captures:
            capture, model = load_with_head_model(folder)
            head = ShapedHead.of(model, capture.identity, capture.static_offset)
            frames = pick_evenly(list(capture.frames_of("test")), options.num_test)
            metrics, _ = measure(avatar, capture, head, frames)
            print(
                f"| {path.stem} | {folder.name} | {metrics['psnr_head']:.2f} | {metrics['psnr_outline']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Measure, description=__doc__))
