"""Measures trained avatars at the head and at the outline, against the images and mattes of several captures.

The captures contain the same frames with the same head states, and differ in images and mattes alone. The outline is
the band around the matte's edge, 2% of the head's height to both sides. PSNR is computed from the mean squared error
over all measured images.

    python scripts/measure_outlines.py --avatars runs/*.pt --captures old new
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import tyro

from partnerface_ns.avatar.file_format import load_avatar
from partnerface_ns.bench.training_runs import render
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.load_with_head_model import load_with_head_model
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.rendering.metrics import metric_regions

_BAND = 0.02
"""Half the width of the band around the outline, as a share of the head's height."""


@dataclass
class Measure:
    """Render and compare; prints a table."""

    avatars: tuple[Path, ...]
    """Avatar files, such as `partnerface bench --keep-avatars` writes."""
    captures: tuple[Path, ...]
    """Captures of the same frames."""
    num_test: int = 10
    """Images of the test split."""


def outline_band(matte: np.ndarray, width: float) -> np.ndarray:
    """Pixels within a distance of the edge of a matte (0 to 255), without the image's border."""
    person = (matte > 127).astype(np.uint8)
    distances = [cv2.distanceTransform(mask, cv2.DIST_L2, 5) for mask in (person, 1 - person)]
    band = np.maximum(*distances) <= width + 0.5
    band[:2], band[-2:], band[:, :2], band[:, -2:] = False, False, False, False
    return band


@torch.no_grad()
def main(options: Measure) -> None:
    torch.set_num_threads(1)
    print(f"{'avatar':40}{'measured against':20}{'head, dB':>10}{'outline, dB':>12}")
    for path in options.avatars:
        avatar, _ = load_avatar(path)
        avatar.eval()
        rendered: dict[int, np.ndarray] = {}
        for folder in options.captures:
            capture, model = load_with_head_model(folder)
            head = ShapedHead.of(model, capture.identity, capture.static_offset)
            errors: dict[str, list[np.ndarray]] = {"head": [], "outline": []}
            for frame in pick_evenly(list(capture.frames_of("test")), options.num_test):
                rgb, matte = load_image(frame, capture.background or (1.0, 1.0, 1.0))
                if frame.timestep not in rendered:
                    rendered[frame.timestep] = render(avatar, capture, frame).numpy()
                square = np.square(rendered[frame.timestep] - rgb.astype(np.float32) / 255).mean(-1)
                region = metric_regions(head.pose(capture.track[frame.timestep]).verts, model, frame.camera)["head"]
                rows = np.nonzero(region.numpy().any(1))[0]
                errors["head"].append(square[region.numpy()])
                errors["outline"].append(square[outline_band(matte, _BAND * (rows[-1] - rows[0]))])
            head_db, outline_db = (-10 * np.log10(np.concatenate(values).mean()) for values in errors.values())
            print(f"{path.stem:40}{folder.name:20}{head_db:10.2f}{outline_db:12.2f}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Measure, description=__doc__))
