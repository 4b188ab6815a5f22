"""Share of an avatar's test error that comes from the tracked head states.

    python scripts/refit_poses.py --avatar RUN/avatar.pt --folder FOLDER

Fits pose and expression of each test frame to that frame's own pixels, and prints the metrics before and after. The fit
uses the truth, so its metrics measure the cost of tracking errors, not generalisation. It is that of
`partnerface report --refit`, but for one frame after the other and an avatar without its run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro

from partnerface_ns.avatar.file_format import load_avatar
from partnerface_ns.bench.training_runs import measure
from partnerface_ns.capture.head_models import resolve_head_model
from partnerface_ns.capture.load import load_capture
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.training.refit import Refitter


def main(avatar: Path, folder: Path, num_frames: int = 5) -> None:
    """Compare test frames as tracked with the same frames refitted.

    Args:
        avatar: the run's avatar.pt.
        folder: the training capture.
        num_frames: number of test frames, even over time.
    """
    loaded, capture = load_avatar(avatar)[0].eval(), load_capture(folder)
    head = ShapedHead.of(resolve_head_model(capture, None), capture.identity, capture.static_offset)
    refitter = Refitter(loaded, capture.states_of("train"))
    tracked, refitted = [], []
    for frame in pick_evenly(capture.frames_of("test"), num_frames):
        tracked.append(measure(loaded, capture, head, [frame])[0])
        refitted.append(measure(loaded, capture, head, [frame], refitter)[0])
        before, after = (rows[-1]["psnr_head"] for rows in (tracked, refitted))
        print(f"timestep {frame.timestep}: {before:.2f} -> {after:.2f} dB")
    for name in ("psnr_head", "psnr_mouth", "psnr_eyes"):
        mean = [np.mean([row[name] for row in rows]) for rows in (tracked, refitted)]
        print(f"{name}: {mean[0]:.2f} as tracked, {mean[1]:.2f} refitted")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except InputError as error:
        raise SystemExit(f"Error: {error}") from None
