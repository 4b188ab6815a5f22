"""The open head and the tiny one, ready for inverse skinning."""

from __future__ import annotations

import pytest
import torch

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.warp.canonical_space import CanonicalSpaceConfig
from partnerface_ns.warp.displacement_grid import DisplacementGridConfig
from partnerface_ns.warp.inverse_skinning import InverseSkinning, InverseSkinningConfig


@pytest.fixture(scope="session")
def open_skinning() -> InverseSkinning:
    """Inverse skinning of the open head with the sizes that avatars have."""
    model = load_open_head()
    head = ShapedHead.of(model, torch.zeros(model.num_identity))
    return InverseSkinning(InverseSkinningConfig(), DisplacementGridConfig(), CanonicalSpaceConfig(), head)


@pytest.fixture
def tiny_shaped(tiny_head: HeadModel) -> ShapedHead:
    return ShapedHead.of(tiny_head, torch.zeros(tiny_head.num_identity))


@pytest.fixture
def tiny_skinning(tiny_shaped: ShapedHead) -> InverseSkinning:
    """Inverse skinning of the tiny head on coarse grids."""
    grid, space = DisplacementGridConfig(shape=(16, 16, 16)), CanonicalSpaceConfig(resolution=24)
    return InverseSkinning(InverseSkinningConfig(), grid, space, tiny_shaped)


@pytest.fixture
def tiny_states(tiny_head: HeadModel) -> HeadState:
    """Three head states of the tiny head in which every joint moves."""
    noise = lambda size, scale: scale * torch.randn(3, size)  # noqa: E731
    expression = noise(tiny_head.num_expr, 0.5)
    return HeadState(expression, noise(3, 0.3), noise(3, 0.1), noise(3, 0.1).abs(), noise(6, 0.2), noise(3, 0.1))
