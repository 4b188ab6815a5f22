"""Aligns the images of a video with each other on the surface of a fitted head.

Every point of the surface should look the same in all frames. What it looks like is the template, a robust mean over
the training frames. Corrections of each frame's head state, and the shape of the person, minimise the differences
between images and template, together with the errors of landmarks and outline. The detail images go from coarse to
fine. In each round, visibility, template and outline matches are renewed. Then shape, frames, and the offsets of this
person's landmarks from the embedding are improved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.tracking.fit.fit_head import FitHead
from partnerface_ns.tracking.fit.observations import Fit, Observations
from partnerface_ns.tracking.fit.photometric.aligner import Aligner
from partnerface_ns.tracking.fit.photometric.detail_images import DetailImages, Level, ReadFrame

LEVELS = (Level(3.0, 12.0), Level(1.5, 8.0), Level(0.7, 5.0))
"""From coarse to fine."""
_ROUNDS, _FRAME_STEPS = 2, 2
"""Rounds at each level, and steps of the frames in each round."""


@dataclass(frozen=True)
class PhotometricResiduals:
    """How much the images differ on the surface of the head."""

    before: Float[Tensor, "frames"]
    """Residual of each frame before the fit, grey levels of 255: median over the visible points of the face."""
    after: Float[Tensor, "frames"]
    """The same after the fit."""
    covered: Float[Tensor, "frames"]
    """Share of the visible points of the face that differ much from the template, in [0, 1]."""


@dataclass(frozen=True)
class Alignment:
    """The result of the photometric fit."""

    fit: Fit
    """Its identity contains the offsets of face and ears."""
    residuals: PhotometricResiduals


def num_steps() -> int:
    """Number of calls of `on_step` of `align_images`."""
    return 2 + len(LEVELS) * _ROUNDS * (3 + _FRAME_STEPS)


def align_images(
    head: FitHead,
    observations: Observations,
    fit: Fit,
    spread: Float[np.ndarray, "landmarks"],
    num_train: int,
    read: ReadFrame,
    folder: Path,
    on_step: Callable[[], None] = lambda: None,
) -> Alignment:
    """Improve a fit by aligning the images with each other.

    Args:
        head: the reduced head model, with offsets of face and ears (`FitHead.with_offsets`).
        observations: landmarks and outlines.
        fit: the fit to landmarks and outlines, without these offsets.
        spread: uncertainty of the landmarks' positions on the head, metres.
        num_train: number of training frames, which come first; only they form the template.
        read: reads image and matte of a frame.
        folder: folder for the detail images, which are removed at the end.
        on_step: called after each pass over the frames, for a progress bar.
    """
    path = folder / "details.npy"
    try:
        details = DetailImages(path, read, len(observations.times), observations.size, LEVELS)
        on_step()
        aligner = Aligner(head, observations, fit, spread, num_train, details)
        last = len(LEVELS) - 1
        aligner.renew(last)
        before, _ = aligner.residuals()
        on_step()
        for level in range(len(LEVELS)):
            for _ in range(_ROUNDS):
                aligner.renew(level)
                on_step()
                aligner.improve_shape()
                on_step()
                for _ in range(_FRAME_STEPS):
                    aligner.improve_frames()
                    on_step()
                aligner.improve_bias()
                on_step()
        aligner.renew(last)
    finally:
        path.unlink(missing_ok=True)
    after, covered = aligner.residuals()
    return Alignment(aligner.result(), PhotometricResiduals(before, after, covered))
