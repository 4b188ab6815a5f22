"""Part assigner: weights of canonical points over K parts, which sum to one.

In the hard stage a point belongs to the part of the nearest seed, and the assigner is not trained. In the soft stage
the weights are

    w(c) = softmax_k( -|c - c_k|^2 / tau^2 + g_k(c) )

with canonical points c, seeds c_k, tau the learned width of the border and g a small network. g starts at zero, so the
soft stage begins as a smoothed copy of the hard one. Only the `top_k` largest weights are kept. `min_weight` is
subtracted from them, negative weights become zero, and the rest is scaled to sum to one. Parts of weight zero are not
evaluated. With top_k = K and min_weight = 0 this is the dense softmax.

Points are metres in the canonical frame. The method's paper publishes the assigner and the two stages. It does not
publish K, its network or the hard rule. The nearest seed, and seeds from the head model's regions, are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from partnerface_ns.common.precision import ignore_outer_autocast
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.geometry.encodings import FrequencyEncoding
from partnerface_ns.geometry.farthest_points import sample_farthest


@dataclass
class PartAssignerConfig:
    """Soft assignment of points to parts."""

    ABSENT: ClassVar[dict[str, float]] = {"min_weight": 0.0}
    """Values of settings that older avatars do not store."""

    top_k: int = 2
    """Largest number of parts that are evaluated for a point in the soft stage. The number of all parts, with a
    `min_weight` of 0, gives the dense sum."""
    min_weight: float = 0.1
    """Weight that is subtracted from each part's weight in the soft stage, at most 1 / (2 `top_k`). A part of less
    weight is not evaluated."""
    hidden: int = 32
    """Width of the network that moves the borders between parts."""
    num_frequencies: int = 3
    """Octaves of the position encoding of this network; more octaves allow finer borders."""
    border: float = 0.03
    """Initial width tau of the border between parts, metres."""


class PartWeights(NamedTuple):
    """Parts of each point and their weights, which sum to one."""

    index: Int[Tensor, "points top"]
    """Indices of the parts."""
    weight: Float[Tensor, "points top"]
    """Weights in [0, 1]."""


class PartAssigner(nn.Module):
    """Hard or soft assignment of canonical points to parts."""

    seeds: Tensor

    def __init__(self, config: PartAssignerConfig, seeds: Float[Tensor, "parts 3"], scale: float) -> None:
        """
        Args:
            config: sizes, and the initial border.
            seeds: part centres, canonical frame, metres.
            scale: half the canonical head's size in metres; divides points to about [-1, 1].
        """
        super().__init__()
        self.config, self.scale = config, scale
        self.register_buffer("seeds", seeds.clone())
        self.log_border = nn.Parameter(torch.tensor(config.border).log())
        self.encoding = FrequencyEncoding(config.num_frequencies)
        hidden = nn.Linear(self.encoding.size, config.hidden)
        output = nn.Linear(config.hidden, seeds.shape[0])
        self.network = nn.Sequential(hidden, nn.ReLU(), output)
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)

    @property
    def num_parts(self) -> int:
        """K, the number of parts."""
        return self.seeds.shape[0]

    def hard(self, points: Float[Tensor, "points 3"]) -> PartWeights:
        """The part of the nearest seed, with weight one and without gradient."""
        with torch.no_grad():
            index = torch.cdist(points, self.seeds).argmin(1, keepdim=True)
        return PartWeights(index, torch.ones_like(points[:, :1]))

    def logits(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points parts"]:
        """Logarithms of the dense soft weights, up to a constant for each point."""
        with ignore_outer_autocast():  # bfloat16 would not separate neighbouring parts
            # |c - c_k|^2 without |c|^2, which is the same for all parts.
            squared = self.seeds.square().sum(-1) - 2 * points @ self.seeds.T
        return self.network(self.encoding(points / self.scale)).float() - squared * (-2 * self.log_border).exp()

    def soft(self, points: Float[Tensor, "points 3"]) -> PartWeights:
        """The `top_k` largest weights of each point, in any order."""
        top = self.logits(points).topk(min(self.config.top_k, self.num_parts), dim=1, sorted=False)
        # The largest weight is at least 1 / top_k, so it never becomes zero.
        subtracted = min(self.config.min_weight, 0.5 / top.values.shape[1])
        weights = (top.values.softmax(1) - subtracted).clamp(min=0)
        return PartWeights(top.indices, weights / weights.sum(1, keepdim=True))

    def roughness(self, points: Float[Tensor, "points 3"], included: Bool[Tensor, "points"]) -> Float[Tensor, ""]:
        """Mean squared change of the dense soft weights over about a centimetre, in random directions.

        Args:
            points: canonical frame, metres.
            included: points of which the mean is taken; without any, the result is 0.
        """
        near = points + 0.01 * torch.randn_like(points)
        change = self.logits(points).softmax(1) - self.logits(near).softmax(1)
        return (change.square().sum(1) * included).sum() / included.sum().clamp(min=1)


def seed_parts(model: HeadModel, verts_canonical: Float[Tensor, "verts 3"], num_parts: int) -> Float[Tensor, "parts 3"]:
    """Part centres on the canonical head, denser where a face deforms.

    Farthest-point sampling over the head's vertices, starting at the mouth. Distances are weighted: most at mouth and
    eyes, less on the face, least on skull and neck. The result is deterministic.

    Args:
        model: gives the regions.
        verts_canonical: the canonical head's vertices, metres.
        num_parts: K, at least 1.

    Returns:
        Centres in the canonical frame, metres. Each is the mean of the vertices that are nearest to a sampled vertex.
    """
    regions = model.regions
    importance = 0.2 + 0.8 * regions["face"] + 0.8 * torch.maximum(regions["lips"], regions["eyelids"])
    on_head = (regions["head"] > 0.5) & (regions["inside_mouth"] < 0.5) & (regions["eyeballs"] < 0.5)
    verts, importance = verts_canonical[on_head], importance[on_head]
    chosen = sample_farthest(verts, num_parts, int(regions["lips"][on_head].argmax()), importance)
    owner = torch.cdist(verts, verts[chosen]).argmin(1)
    return torch.stack([verts[owner == k].mean(0) for k in range(num_parts)])
