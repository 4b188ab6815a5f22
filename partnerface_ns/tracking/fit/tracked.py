"""A fitted video before it is written as a capture."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.tracking.fit.fit_head import FitHead
from partnerface_ns.tracking.fit.observations import Fit, Observations
from partnerface_ns.tracking.fit.photometric.alignment import Alignment, PhotometricResiduals

_TRAIN_SHARE = 0.7
"""Share of the frames, from the beginning, that are for training; VHAP splits in the same way."""
_BAD_FIT_PX, _BAD_FIT_FACTOR = 5.0, 3.5
"""A frame is a bad fit if its mean landmark error exceeds both limits: pixels at 512, and a multiple of the median."""


@dataclass(frozen=True)
class TrackedVideo:
    """The frames that are kept, with their observations and fit."""

    indices: Int[np.ndarray, "frames"]
    """Their indices in the video."""
    head: FitHead
    observations: Observations
    fit: Fit
    residuals: PhotometricResiduals | None = None
    """None without a photometric fit."""

    @property
    def num_train(self) -> int:
        """Number of training frames; they come first."""
        return math.ceil(_TRAIN_SHARE * len(self.indices))

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """One camera for each frame, at the world's origin, with the principal point of its image."""
        focal, size = self.fit.focal, self.observations.size
        return tuple(
            Camera(np.eye(4), focal, focal, float(x), float(y), size, size)
            for x, y in self.observations.principal.tolist()
        )

    def landmarks(self) -> Float[Tensor, "frames landmarks 2"]:
        """The fitted landmarks, with this person's landmark offsets, in pixels."""
        head, fit = self.head, self.fit
        bias = torch.zeros_like(head.landmark_model.template)
        bias[: head.num_landmarks] = fit.landmark_bias
        verts = ShapedHead.of(head.landmark_model, fit.identity, bias).pose(fit.track).verts
        return self.observations.project(verts[:, : head.num_landmarks], fit.focal)

    def landmark_errors(self) -> Float[Tensor, "frames landmarks"]:
        """Distances of the fitted from the detected landmarks, pixels at 512."""
        return (self.landmarks() - self.observations.landmarks[..., :2]).norm(dim=-1) / self.observations.px

    def drop_bad_fits(self) -> TrackedVideo:
        """Keep only the frames in which the landmarks fit a face."""
        error = self.landmark_errors().mean(-1)
        keep = torch.nonzero((error < _BAD_FIT_PX) | (error < _BAD_FIT_FACTOR * error.median()))[:, 0]
        fit = replace(self.fit, track=self.fit.track[keep])
        return TrackedVideo(self.indices[keep.numpy()], self.head, self.observations[keep], fit)

    def with_photometric(self, head: FitHead, alignment: Alignment) -> TrackedVideo:
        """Replace head and fit by those of a photometric fit."""
        return replace(self, head=head, fit=alignment.fit, residuals=alignment.residuals)

    def to_capture(self, root: Path, skipped: dict[int, str]) -> Capture:
        """Make the capture, with a white background.

        Args:
            root: the new folder.
            skipped: frames of the video that were left out, with their reasons.
        """
        num, model = len(self.indices), self.head.full
        num_train = self.num_train
        return Capture(
            root=root,
            name=root.name,
            head_model=HeadModelRef(model.name, model.fingerprint),
            identity=self.fit.identity[: model.num_identity],
            static_offset=self.head.static_offset(self.fit.identity),
            track=self.fit.track,
            frames=tuple(Frame(t, 0, camera, None, None) for t, camera in enumerate(self.cameras)),
            splits={"train": tuple(range(num_train)), "val": (), "test": tuple(range(num_train, num))},
            skipped={f"frame {index}": reason for index, reason in sorted(skipped.items())},
            background=(1.0, 1.0, 1.0),
        )
