"""The expected density before training, on the tiny head."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.testing import assert_close

from partnerface_ns.avatar.surface_prior import surface_features
from partnerface_ns.warp.canonical_space import CanonicalSpace, CanonicalSpaceConfig


def test_expected_density_falls_off_faster_at_the_mouth_only(tiny_head):
    """So that the gap between parted lips is expected to be empty."""
    verts, model = tiny_head.template, tiny_head
    steep = CanonicalSpace(CanonicalSpaceConfig(resolution=48), verts, model)
    even = CanonicalSpace(replace(CanonicalSpaceConfig(resolution=48), mouth_steepness=1.0), verts, model)
    outward = torch.nn.functional.normalize(verts, dim=1)
    lips, back = model.regions["lips"] > 0.5, (verts[:, 2] < -0.02) & (verts.norm(dim=1) < 0.12)
    assert lips.any() and back.any()

    def log_density(space: CanonicalSpace, at: torch.Tensor, height: float) -> torch.Tensor:
        return surface_features(space, (verts + height * outward)[at]).log_density

    assert (log_density(steep, lips, 0.006) < log_density(even, lips, 0.006) - 1).all()
    assert (log_density(steep, lips, -0.005) > 6).all()
    assert_close(log_density(steep, back, 0.006), log_density(even, back, 0.006))
