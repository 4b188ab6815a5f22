"""The template, and the visibility of points."""

from __future__ import annotations

import pytest
import torch

from partnerface_ns.tracking.fit.photometric.template import make_template
from partnerface_ns.tracking.fit.photometric.visibility import visibility


def test_the_template_ignores_covered_and_invisible_samples():
    truth = 10 * torch.randn(200)
    samples = truth + 1.5 * torch.randn(40, 200)
    weights = torch.ones(40, 200)
    samples[:8] += 60  # a hand in some frames
    samples[8:16], weights[8:16] = 500.0, 0.0
    template = make_template(samples, weights)
    assert (template.values - truth).abs().max() < 1.5
    assert template.noise == pytest.approx(1.5, rel=0.5)


def test_points_that_no_training_frame_shows_are_unknown():
    weights = torch.ones(10, 3)
    weights[:, 1] = 0.05
    assert make_template(torch.randn(10, 3), weights).known.tolist() == [1, 0, 1]


def test_points_that_face_away_or_lie_behind_others_are_invisible():
    points = torch.tensor([[0.0, 0.0, -1.0], [0.0005, 0.0, -1.05], [0.1, 0.0, -1.0], [0.2, 0.0, -1.0]])
    normals = torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 0, -1], [0.97, 0, 0.2]])
    pixels = 128 + 256 * points[:, :2] / -points[:, 2:]
    seen = visibility(points[None], normals[None], pixels[None], 256)[0]
    assert seen[0] == 1 and seen[1] == 0 and seen[2] == 0 and 0 <= seen[3] < 0.2
