"""A person whose landmarks are known, in front of a camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.tracking.fit.embedding import landmark_embedding
from partnerface_ns.tracking.fit.fit_head import reduce_head
from partnerface_ns.tracking.realtime.landmark_energy import LandmarkEnergy

FOCAL, SIDE = 820.0, 512


@dataclass
class KnownPerson:
    """The true head, seen by a camera at the origin."""

    head: ShapedHead

    def still(self, num: int, seed: int = 0) -> HeadState:
        """Frames of a face at rest that trembles a little."""
        rng = torch.Generator().manual_seed(seed)
        states = HeadState.neutral(self.head.model.num_expr, (num,))
        states.translation.copy_(torch.tensor([0.02, -0.03, -0.75]) + 0.002 * torch.randn(num, 3, generator=rng))
        states.neck.copy_(0.02 * torch.randn(num, 3, generator=rng))
        states.jaw[:, 0] = 0.03
        return states

    def moving(self, num: int) -> HeadState:
        """Frames of a face that turns, speaks and looks around, from rest."""
        states, time = self.still(num), torch.arange(num) / 25
        states.neck[:, 1] += 0.3 * torch.sin(2 * time)
        states.jaw[:, 0] += 0.12 * (1 - torch.cos(9 * time))
        look = 0.2 * torch.sin(3 * time)
        states.eyes[:, 1], states.eyes[:, 4] = look, look
        smile = self.head.model.expression_names.index("mouthSmileLeft")
        states.expression[:, smile] = 0.3 * (1 - torch.cos(4 * time))
        return states

    def landmarks(self, states: HeadState, noise: float = 0.3, seed: int = 1) -> np.ndarray:
        """Landmarks with noise in pixels of the frame, (frames, 478, 3)."""
        embedding = landmark_embedding(self.head.model)
        verts = self.head.pose(states).verts[:, torch.from_numpy(embedding.vertices)].double()
        points = np.einsum("lk,flkc->flc", embedding.weights, verts.numpy())
        depth = -points[..., 2]
        x, y = (FOCAL * sign * points[..., axis] / depth + SIDE / 2 for axis, sign in ((0, 1), (1, -1)))
        z = (depth - depth.mean(1, keepdims=True)) * FOCAL / depth.mean(1, keepdims=True)
        rng = np.random.default_rng(seed)
        return np.stack([x, y, z], -1) + noise * rng.standard_normal((*x.shape, 3))


@pytest.fixture(scope="session")
def known_person() -> KnownPerson:
    model = load_open_head()
    rng = torch.Generator().manual_seed(5)
    return KnownPerson(ShapedHead.of(model, 0.7 * torch.randn(model.num_identity, generator=rng)))


@pytest.fixture(scope="session")
def energy(known_person: KnownPerson) -> LandmarkEnergy:
    model = known_person.head.model
    embedding = landmark_embedding(model)
    return LandmarkEnergy(reduce_head(model, embedding), embedding.spread)
