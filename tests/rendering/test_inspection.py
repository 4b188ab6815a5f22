"""Colours of parts."""

from __future__ import annotations

import pytest
import torch

from partnerface_ns.rendering.inspection import part_colors


@pytest.mark.parametrize("num_parts", [1, 8, 16])
def test_part_colours_can_be_told_apart(num_parts):
    colors = part_colors(num_parts)
    assert ((colors >= 0) & (colors <= 1)).all()
    if num_parts > 1:
        assert (torch.cdist(colors, colors) + torch.eye(num_parts)).min() > 0.05
