"""Correspondences between outline and surface."""

from __future__ import annotations

import pytest
import torch

from partnerface_ns.tracking.fit.outline_matching import match_outline


@pytest.mark.parametrize("gate, expected", [(5.0, True), (1.0, False)])
def test_the_outermost_surface_point_beside_an_outline_point_is_matched(gate, expected):
    outline = torch.tensor([[[50.0, 20.0, 0.0, -1.0], [torch.nan] * 4]])
    # Inner rim, outer rim 3 pixels too far in, one that faces the viewer, one with a wrong normal, one aside.
    projected = torch.tensor([[[50.0, 33.0], [52.0, 23.0], [50.0, 19.0], [50.0, 21.0], [90.0, 20.0]]])
    normals = torch.tensor([[[0.0, -1.0], [0.0, -1.0], [0.0, -1.0], [0.0, 1.0], [0.0, -1.0]]])
    facing = torch.tensor([[0.1, 0.0, 0.9, 0.0, 0.0]])
    matches = match_outline(outline, projected, normals, facing, gate, 1.0)
    assert matches.valid.tolist() == [[expected, False]]
    if expected:
        assert matches.indices[0, 0] == 1
