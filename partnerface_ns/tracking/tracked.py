"""A fitted video before it is written: frames kept, cameras, fit, and how well it fits."""

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
from partnerface_ns.tracking.fit_head import FitHead
from partnerface_ns.tracking.observations import Fit, Observations

_TRAIN_SHARE = 0.7
"""Of the frames, the first ones, as VHAP splits."""
_BAD_FIT_PX, _BAD_FIT_FACTOR = 5.0, 3.5
"""A frame whose mean landmark error is above both, pixels at 512 and times the median, was fitted to nonsense."""


@dataclass(frozen=True)
class Tracked:
    """What is known of the frames that are kept."""

    indices: Int[np.ndarray, "frames"]
    """Which frames of the video they are."""
    head: FitHead
    seen: Observations
    fit: Fit

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """One for each frame, at the world's origin; images cut out of larger frames have their centre aside."""
        focal, size = self.fit.focal, self.seen.size
        return tuple(
            Camera(np.eye(4), focal, focal, float(x), float(y), size, size) for x, y in self.seen.principal.tolist()
        )

    def landmarks(self) -> Float[Tensor, "frames landmarks 2"]:
        """The fitted landmarks in pixels, each at this person's place of it."""
        head, fit = self.head, self.fit
        places = torch.zeros_like(head.landmark_model.template)
        places[: head.num_landmarks] = fit.landmark_bias
        verts = ShapedHead.of(head.landmark_model, fit.identity, places).pose(fit.track).verts
        return self.seen.project(verts[:, : head.num_landmarks], fit.focal)

    def landmark_errors(self) -> Float[Tensor, "frames landmarks"]:
        """Distances from the detected landmarks, pixels at 512."""
        return (self.landmarks() - self.seen.landmarks[..., :2]).norm(dim=-1) / self.seen.px

    def without_bad_fits(self) -> Tracked:
        """Only the frames in which the landmarks fit a face."""
        error = self.landmark_errors().mean(-1)
        keep = torch.nonzero((error < _BAD_FIT_PX) | (error < _BAD_FIT_FACTOR * error.median()))[:, 0]
        fit = replace(self.fit, track=self.fit.track[keep])
        return Tracked(self.indices[keep.numpy()], self.head, self.seen[keep], fit)

    def capture(self, root: Path, skipped: dict[int, str]) -> Capture:
        """The capture to write, on white.

        Args:
            root: the new folder.
            skipped: frames of the video that were left out, with reasons.
        """
        num, model = len(self.indices), self.head.full
        num_train = math.ceil(_TRAIN_SHARE * num)
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
