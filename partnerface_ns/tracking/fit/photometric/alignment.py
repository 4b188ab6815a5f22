"""Aligns the images of a video with each other on the surface of a fitted head.

Every point of the surface should look the same in all frames. What it looks like is the template, a robust mean over
the training frames. Corrections of each frame's head state, and the shape of the person, minimise the differences
between images and template, together with the errors of landmarks and outline. The detail images go from coarse to
fine. In each round, visibility, template and outline matches are renewed. Then shape, relief of the outline, frames,
and the offsets of this person's landmarks from the embedding are improved. Finally, the shoulders are aligned in the
same way, with a pose of their own in each frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.tracking.fit.fit_head import FitHead
from partnerface_ns.tracking.fit.observations import Fit, Observations
from partnerface_ns.tracking.fit.photometric.aligner import Aligner
from partnerface_ns.tracking.fit.photometric.detail_images import DetailImages, Level, ReadFrame, matte_frame
from partnerface_ns.tracking.fit.photometric.torso import TorsoAligner, has_shoulders

LEVELS = (Level(3.0, 12.0), Level(1.5, 8.0), Level(0.7, 5.0))
"""From coarse to fine."""
MATTE_LEVELS = (Level(8.0, 30.0), Level(4.0, 16.0), Level(2.0, 8.0))
"""Levels of the mattes. They are coarser because the initial pose of the shoulders may be far off."""
_ROUNDS, _TORSO_ROUNDS, _FRAME_STEPS = 2, 6, 2
"""Rounds of the head and of the shoulders at each level, and steps of the frames in each round."""


@dataclass(frozen=True)
class PhotometricResiduals:
    """How much the images differ on the surface of head and shoulders."""

    before: Float[Tensor, "frames"]
    """Residual of each frame before the fit, grey levels of 255: median over the visible points of the face."""
    after: Float[Tensor, "frames"]
    """The same after the fit."""
    covered: Float[Tensor, "frames"]
    """Share of the visible points of the face that differ much from the template, in [0, 1]."""
    torso_before: Float[Tensor, "frames"]
    """Residual of the shoulders before they are aligned, over the visible points; NaN without such points."""
    torso_after: Float[Tensor, "frames"]
    """The same afterwards."""


@dataclass(frozen=True)
class Alignment:
    """The result of the photometric fit."""

    fit: Fit
    """Its identity contains the offsets of face and ears, and its track the pose of the shoulders."""
    residuals: PhotometricResiduals


def num_steps(model: HeadModel) -> int:
    """Number of calls of `on_step` of `align_images` for a head model."""
    of_shoulders = (1 + len(LEVELS) * _TORSO_ROUNDS) * has_shoulders(model)
    return 2 + len(LEVELS) * _ROUNDS * (4 + _FRAME_STEPS) + of_shoulders


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
        num_train: number of training frames, which come first; only they determine template and relief.
        read: reads image and matte of a frame.
        folder: folder for the detail images, which are removed at the end.
        on_step: called after each part of the work, for a progress bar.
    """
    num, size = len(observations.times), observations.size
    paths = [folder / name for name in ("details.npy", "mattes.npy")]
    try:
        details = DetailImages(paths[0], read, num, size, LEVELS)
        on_step()
        aligned = _align_head(Aligner(head, observations, fit, spread, num_train, details), on_step)
        if not has_shoulders(head.full):
            return aligned
        mattes = DetailImages(paths[1], lambda frame: matte_frame(read(frame)[1]), num, size, MATTE_LEVELS)
        on_step()
        shoulders = TorsoAligner(head, observations, aligned.fit, num_train, details, mattes)
        return _align_shoulders(shoulders, aligned.residuals, on_step)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def _align_head(aligner: Aligner, on_step: Callable[[], None]) -> Alignment:
    """Align face, head and neck."""
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
            aligner.improve_relief()
            on_step()
            for _ in range(_FRAME_STEPS):
                aligner.improve_frames()
                on_step()
            aligner.improve_bias()
            on_step()
    aligner.renew(last)
    unknown = torch.full_like(before, torch.nan)
    return Alignment(aligner.result(), PhotometricResiduals(before, *aligner.residuals(), unknown, unknown))


def _align_shoulders(aligner: TorsoAligner, residuals: PhotometricResiduals, on_step: Callable[[], None]) -> Alignment:
    """Align the shoulders; `residuals` are those of the head."""
    last = len(LEVELS) - 1
    aligner.renew(last)
    before = aligner.residuals()
    for level in range(len(LEVELS)):
        for _ in range(_TORSO_ROUNDS):
            aligner.renew(level)
            for _ in range(_FRAME_STEPS):
                aligner.improve()
            on_step()
    aligner.renew(last)
    return Alignment(aligner.result(), replace(residuals, torso_before=before, torso_after=aligner.residuals()))
