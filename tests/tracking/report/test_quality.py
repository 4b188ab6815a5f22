"""Quality measures of a track."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from partnerface_ns.tracking.fit.photometric.alignment import PhotometricResiduals
from partnerface_ns.tracking.report.quality import TrackErrors, measure_jitter, outline_distance, quality_figures


def test_figures():
    landmarks = torch.full((10, 478), 2.0)
    landmarks[:, 468:] = 5.0
    silhouette = torch.tensor([1.0, 3.0] + [float("nan")] * 8)
    values = quality_figures(TrackErrors(landmarks, silhouette, 0.25))
    assert values["landmark_px_median"] == 2 and values["iris_px_median"] == 5
    assert values["landmark_px_mean"] == pytest.approx((468 * 2 + 10 * 5) / 478, abs=1e-3)
    assert values["silhouette_px_mean"] == 2 and values["jitter_px"] == 0.25


def test_a_silhouette_that_was_not_measured_is_null():
    errors = TrackErrors(torch.ones(8, 478), torch.full((8,), float("nan")), 0.1)
    assert quality_figures(errors)["silhouette_px_mean"] is None


def test_residuals_of_the_images_are_stated_for_training_and_test_frames():
    errors = TrackErrors(torch.ones(8, 478), torch.ones(8), 0.1)
    assert quality_figures(errors)["image_residual_after_test"] is None
    images = PhotometricResiduals(
        torch.full((8,), 3.0), torch.arange(8.0), torch.zeros(8), torch.full((8,), torch.nan), torch.ones(8)
    )
    values = quality_figures(replace(errors, images=images, num_train=6))
    assert values["image_residual_before"] == values["image_residual_before_test"] == 3
    assert values["torso_residual_before"] is None and values["torso_residual_after_test"] == 1
    assert values["image_residual_after"] == 2.5 and values["image_residual_after_test"] == 6.5


def test_jitter_is_the_size_of_independent_errors_and_ignores_motion():
    rng = torch.Generator().manual_seed(0)
    still = 0.4 * torch.randn(200, 100, 2, generator=rng)
    assert measure_jitter(still) == pytest.approx(0.4 * 2**0.5, rel=0.1)
    moving = torch.arange(200.0)[:, None, None].expand(200, 100, 2) * 2
    assert measure_jitter(moving) < 1e-4
    assert measure_jitter(still[:3]) == 0


def test_outline_distance():
    line = np.stack([np.arange(0, 100.0), np.zeros(100)], -1)
    assert outline_distance(line + np.array([0, 3]), line) == pytest.approx(3)
    assert np.isnan(outline_distance(line[:0], line)) and np.isnan(outline_distance(line, line[:0]))
