"""Quality measures of a track.

All distances are pixels of an image of 512 x 512, independent of the size of the images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.tracking.fit.photometric.alignment import PhotometricResiduals
from partnerface_ns.tracking.video.face_topology import EYE_LEFT, EYE_RIGHT, IRIS_LEFT, IRIS_RIGHT, LIPS


@dataclass(frozen=True)
class TrackErrors:
    """Errors of each frame, pixels at 512."""

    landmarks: Float[Tensor, "frames landmarks"]
    silhouette: Float[Tensor, "frames"]
    """Mean distance between the outlines of mesh and matte; NaN where it was not measured."""
    jitter: float
    """Result of `measure_jitter`."""
    images: PhotometricResiduals | None = None
    """Differences between the images on the surface of head and shoulders; None without a photometric fit."""
    num_train: int = 0
    """Number of training frames; they come first."""


def quality_figures(errors: TrackErrors) -> dict[str, float | None]:
    """Return the figures of `tracking.json`; None for figures that were not measured."""
    distances = errors.landmarks
    iris = [*range(IRIS_LEFT.start, IRIS_LEFT.stop), *range(IRIS_RIGHT.start, IRIS_RIGHT.stop)]
    silhouette = errors.silhouette[torch.isfinite(errors.silhouette)]
    values = {
        "landmark_px_mean": distances.mean(),
        "landmark_px_median": distances.median(),
        "lips_px_median": distances[:, list(LIPS)].median(),
        "eyes_px_median": distances[:, [*EYE_LEFT, *EYE_RIGHT]].median(),
        "iris_px_median": distances[:, iris].median(),
        "silhouette_px_mean": silhouette.mean() if len(silhouette) else torch.tensor(float("nan")),
        "jitter_px": torch.tensor(errors.jitter),
        **_image_figures(errors),
    }
    return {key: round(float(value), 3) if torch.isfinite(value) else None for key, value in values.items()}


def _image_figures(errors: TrackErrors) -> dict[str, Float[Tensor, ""]]:
    """Mean residuals of the photometric fit, of the training frames and of the others; NaN without such a fit."""
    parts = {"": slice(0, errors.num_train), "_test": slice(errors.num_train, None)}
    values, images = {}, errors.images
    for suffix, part in parts.items():
        for surface, prefix in (("image", ""), ("torso", "torso_")):
            for name in ("before", "after"):
                residuals = torch.tensor([]) if images is None else getattr(images, prefix + name)[part]
                values[f"{surface}_residual_{name}{suffix}"] = residuals.nanmean()
    return values


def measure_jitter(projected: Float[Tensor, "frames landmarks 2"]) -> float:
    """Return the jitter of a tracked face in the unit of the points.

    The standard deviation of second differences of independent errors is sqrt(6) times that of one error. Only the
    quarter of the frames with the least motion is used.
    """
    if len(projected) < 8:
        return 0.0
    second = projected[2:] - 2 * projected[1:-1] + projected[:-2]
    per_frame = second.square().sum(-1).mean(-1).sqrt() / 6**0.5
    speed = (projected[2:] - projected[:-2]).square().sum(-1).mean(-1)
    still = speed.argsort()[: max(1, len(speed) // 4)]
    return float(per_frame[still].median())


def outline_distance(mesh: Float[np.ndarray, "points 2"], matte: Float[np.ndarray, "others 2"]) -> float:
    """Mean distance of the mesh's outline points from the matte's outline; NaN if either has no points."""
    from scipy.spatial import KDTree

    if len(mesh) == 0 or len(matte) == 0:
        return float("nan")
    return float(KDTree(matte).query(mesh)[0].mean())
