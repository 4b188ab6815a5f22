"""Norms of the gradients of ordinary training steps, by which `MAX_GRADIENT_NORM` was chosen.

python scripts/measure_gradients.py --folder FOLDER --num-steps 600
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import tyro

from partnerface_ns.bench.training_runs import avatar_for
from partnerface_ns.capture.head_models import resolve_head_model
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.load import load_capture
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.training.loop import FitConfig, run_steps
from partnerface_ns.training.presets import lite
from partnerface_ns.training.rays import TrainingImages
from partnerface_ns.training.region_boxes import region_boxes
from partnerface_ns.training.schedule import ScheduleConfig


def main(folder: Path, num_steps: int = 600) -> None:
    """Train the lite preset on a capture, and print the norms of its gradients before clipping.

    Args:
        folder: the training capture.
        num_steps: number of training steps.
    """
    torch.manual_seed(0)
    capture = load_capture(folder)
    model, frames = resolve_head_model(capture, None), capture.frames_of("train")
    head = ShapedHead.of(model, capture.identity, capture.static_offset)
    images = [load_image(frame, capture.background or (1.0, 1.0, 1.0)) for frame in frames]
    boxes = region_boxes(head, capture.track, frames)
    images = TrainingImages([rgb for rgb, _ in images], [mask for _, mask in images], frames, boxes)
    preset, schedule = lite(), ScheduleConfig(max_steps=num_steps)
    avatar = avatar_for(capture, head, frames, preset)
    steps = run_steps(avatar, images, capture.track, FitConfig(schedule, preset.sampler))
    norms = np.array([float(torch.stack(list(result.gradient_norms.values())).norm()) for _, result in steps])
    for name, part in (("warm-up", norms[: schedule.warmup_steps]), ("after it", norms[schedule.warmup_steps :])):
        median, most = np.percentile(part, [50, 99])
        print(f"{name}: median {median:.3f}, 99% below {most:.3f}, largest {part.max():.3f}")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
