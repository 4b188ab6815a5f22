"""Measures trained avatars at the demo's wrinkles and glasses.

The demo is rendered again without wrinkles and without glasses. Pixels that change show the detail. For each detail,
the table has the PSNR of these pixels, and the share of the change that the avatar shows: 0 for an avatar without it,
1 for the truth.

    partnerface demo --output demo
    python scripts/measure_demo_details.py --capture demo/subject --avatars demo/avatar.pt
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from jaxtyping import Bool, Float
from scipy.ndimage import binary_dilation

from partnerface_ns.avatar.file_format import load_avatar
from partnerface_ns.bench.training_runs import render
from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.load_with_head_model import load_with_head_model
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.demo.posed_person import PosedPerson
from partnerface_ns.demo.subject import DemoSubject

_VISIBLE = 0.03
"""Change of a colour in [0, 1] from which a pixel belongs to a detail."""

_TO_A_POINT = np.diag([0.0, 0.0, 0.0, 1.0])
"""Shrinks the glasses to a point inside the neck, where nothing sees them."""


@dataclass
class Measure:
    """Render and compare; prints a table."""

    capture: Path
    """The demo's capture, as `partnerface make-subject` writes it."""
    avatars: tuple[Path, ...]
    """Files of avatars that were trained on this capture."""
    num_test: int = 8
    """Number of images, evenly spread over the split."""
    split: Literal["test", "train"] = "test"
    """The split of the images."""
    seed: int = 0
    """The seed that the capture was made with."""


@dataclass(frozen=True)
class Detail:
    """What a detail changes in one image."""

    change: Float[np.ndarray, "height width 3"]
    """The image minus the image without the detail, colours in [0, 1]."""
    pixels: Bool[np.ndarray, "height width"]
    """Pixels that change by at least `_VISIBLE`, and their neighbours."""


def main(options: Measure) -> None:
    torch.set_num_threads(1)
    capture, _ = load_with_head_model(options.capture)
    subject = DemoSubject.create(options.seed, len(capture.track), capture.frames[0].camera.width)
    frames = pick_evenly(list(capture.frames_of(options.split)), options.num_test)
    _require_same(subject, capture, frames[0], options.seed)
    truths, details = zip(*(_details(subject, frame) for frame in frames), strict=True)
    print("| avatar | " + " | ".join(f"{name}: psnr | shown" for name in details[0]) + " |")
    print("|---" * (1 + 2 * len(details[0])) + "|")
    for path in options.avatars:
        avatar, _ = load_avatar(path)
        avatar.eval()
        rendered = [render(avatar, frame, capture.track[torch.tensor([frame.timestep])]).numpy() for frame in frames]
        cells = [_score(truths, rendered, [of_frame[name] for of_frame in details]) for name in details[0]]
        print(f"| {path.stem} | " + " | ".join(f"{psnr:.2f} | {shown:.2f}" for psnr, shown in cells) + " |", flush=True)


def _require_same(subject: DemoSubject, capture: Capture, frame: Frame, seed: int) -> None:
    """Require that the capture shows this person: an image differs from the stored one by rounding alone."""
    stored, _ = load_image(frame, capture.background or (1.0, 1.0, 1.0))
    difference = int(abs(stored.astype(int) - subject.image(frame.timestep)[0].astype(int)).max())
    if difference > 2:
        raise InputError(
            "--seed",
            "another person than the capture's",
            expected="the seed of the capture",
            actual=f"{seed}, whose image differs by {difference} of 255",
        )


def _details(subject: DemoSubject, frame: Frame) -> tuple[np.ndarray, dict[str, Detail]]:
    """The true image of a frame in [0, 1], and its details."""
    pose = subject.pose(frame.timestep)
    truth = _image(subject, pose)
    without = {
        "wrinkles": replace(pose, expression={}),
        "glasses": replace(pose, T_skull_glasses=_TO_A_POINT),
    }
    return truth, {name: _detail(truth - _image(subject, other)) for name, other in without.items()}


def _detail(change: np.ndarray) -> Detail:
    return Detail(change, binary_dilation((abs(change) > _VISIBLE).any(-1)))


def _image(subject: DemoSubject, pose: PosedPerson) -> np.ndarray:
    colors, _ = subject.scene.image(pose, subject.camera)
    return colors.astype(np.float32) / 255


def _score(truths: tuple[np.ndarray, ...], rendered: list[np.ndarray], details: list[Detail]) -> tuple[float, float]:
    """PSNR over a detail's pixels in dB, and the share of its change that is rendered.

    Raises:
        InputError: no image shows the detail.
    """
    at_detail = [detail.pixels for detail in details]
    if not any(pixels.any() for pixels in at_detail):
        raise InputError("--num-test", "no image shows this detail", expected="more images", actual=len(details))
    error = np.concatenate([(r - t)[at] for r, t, at in zip(rendered, truths, at_detail, strict=True)])
    change = np.concatenate([detail.change[at] for detail, at in zip(details, at_detail, strict=True)])
    # The rendered change is the true change plus the error; projected on the true change, it is this share of it.
    shown = 1 + float((error * change).sum() / (change**2).sum())
    return -10 * math.log10(float((error**2).mean())), shown


if __name__ == "__main__":
    main(tyro.cli(Measure, description=__doc__))
