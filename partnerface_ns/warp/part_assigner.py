"""Which part of the face a canonical point belongs to: weights over K parts that sum to one.

Hard stage: a point belongs to the part of the nearest seed, and the assigner is not trained. Soft stage: the
weights are

    w(x) = softmax_k( -|x - c_k|^2 / tau^2 + g_k(x) )

with seeds c_k, tau the learned width of the border and g a small network that starts at zero, so that the soft stage
begins as a smoothed copy of the hard one. Only the `top_k` largest weights are kept and scaled to sum to one; with
top_k = K that is the dense softmax itself.

Points are metres in the canonical frame. The method's paper publishes the assigner and the two stages, but neither K,
nor its network, nor the hard rule: nearest seed, and seeds spread over the head model's regions, are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.geometry.encodings import FrequencyEncoding
from partnerface_ns.geometry.farthest_points import sample_farthest


@dataclass
class PartAssignerConfig:
    """The soft assignment of points to parts."""

    top_k: int = 2
    """Parts evaluated for a point in the soft stage; the number of parts gives the dense sum."""
    hidden: int = 32
    """Width of the network that moves the borders between parts."""
    num_frequencies: int = 3
    """Octaves of the encoding that this network sees; more let borders be finer."""
    border: float = 0.03
    """Initial width tau in metres over which neighbouring parts blend."""


class PartWeights(NamedTuple):
    """Parts of each point and their weights, which sum to one."""

    index: Int[Tensor, "points top"]
    weight: Float[Tensor, "points top"]


class PartAssigner(nn.Module):
    """Hard or soft assignment of canonical points to parts."""

    def __init__(self, config: PartAssignerConfig, seeds: Float[Tensor, "parts 3"], scale: float) -> None:
        """
        Args:
            seeds: part centres, canonical frame, metres.
            scale: half the canonical head's size in metres, which brings points to about [-1, 1].
        """
        super().__init__()
        self.config, self.scale = config, scale
        self.register_buffer("seeds", seeds.clone())
        self.log_border = nn.Parameter(torch.tensor(config.border).log())
        self.encoding = FrequencyEncoding(config.num_frequencies)
        self.network = nn.Sequential(
            nn.Linear(self.encoding.size, config.hidden), nn.ReLU(), nn.Linear(config.hidden, seeds.shape[0])
        )
        nn.init.zeros_(self.network[-1].weight)
        nn.init.zeros_(self.network[-1].bias)

    @property
    def num_parts(self) -> int:
        return self.seeds.shape[0]

    def hard(self, points: Float[Tensor, "points 3"]) -> PartWeights:
        """The part of the nearest seed, with weight one; no gradient."""
        with torch.no_grad():
            index = torch.cdist(points, self.seeds).argmin(1, keepdim=True)
        return PartWeights(index, torch.ones_like(points[:, :1]))

    def logits(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points parts"]:
        """Logarithm of the soft weights, up to a constant a point; differentiable in the parameters and points."""
        squared = (points[:, None] - self.seeds).square().sum(-1)
        return self.network(self.encoding(points / self.scale)).float() - squared * (-2 * self.log_border).exp()

    def soft(self, points: Float[Tensor, "points 3"]) -> PartWeights:
        """The `top_k` largest weights of each point, in any order."""
        top = self.logits(points).topk(min(self.config.top_k, self.num_parts), dim=1, sorted=False)
        return PartWeights(top.indices, top.values.softmax(1))

    def roughness(self, points: Float[Tensor, "points 3"], counted: Bool[Tensor, "points"]) -> Float[Tensor, ""]:
        """Mean squared change of the dense soft weights over about a centimetre in a random direction.

        Args:
            points: canonical frame, metres.
            counted: which of them the mean is over; 0 without any.
        """
        near = points + 0.01 * torch.randn_like(points)
        change = self.logits(points).softmax(1) - self.logits(near).softmax(1)
        return (change.square().sum(1) * counted).sum() / counted.sum().clamp(min=1)


def seed_parts(model: HeadModel, verts_canonical: Float[Tensor, "verts 3"], num_parts: int) -> Float[Tensor, "parts 3"]:
    """Part centres on the canonical head, spread where a face deforms.

    Farthest-point sampling over the head's vertices, starting at the mouth, in a metric that counts distances in mouth,
    eyes and face more than those on skull and neck. Deterministic.

    Args:
        model: gives the regions.
        verts_canonical: the canonical head's vertices, metres.
        num_parts: K, at least 1.

    Returns:
        Centres, canonical frame, metres: the mean of the vertices nearest to each sampled vertex.
    """
    regions = model.regions
    importance = 0.2 + 0.8 * regions["face"] + 0.8 * torch.maximum(regions["lips"], regions["eyelids"])
    on_head = (regions["head"] > 0.5) & (regions["inside_mouth"] < 0.5) & (regions["eyeballs"] < 0.5)
    verts, importance = verts_canonical[on_head], importance[on_head]
    chosen = sample_farthest(verts, num_parts, int(regions["lips"][on_head].argmax()), importance)
    owner = torch.cdist(verts, verts[chosen]).argmin(1)
    return torch.stack([verts[owner == k].mean(0) for k in range(num_parts)])
