"""The part-based deformation field: K local networks, each for one part of the face.

    Delta(x, s) = r tanh(sum_k w_k(x) f_k(x - c_k, s_k))

with r the largest offset, w from the part assigner, f_k the network of part k and s_k the frame's driving code as part
k sees it. A network's first layer is split: the position's share is computed for each point, the code's share once for
each frame and part. Points are sorted by part, so each network runs once over its own points only. The last layers
start at zero: the warp begins as the identity.

Besides the offset a network gives a few ambient coordinates: appearance that moves with the expression (a wrinkle's
shade) where no displacement explains it. `GlobalDeformation` is the comparison: one network, as many parameters.

Points are metres in the canonical frame. The method's paper publishes the sum over local networks; sizes, the
split first layer, the ambient coordinates and each part's view of the code are our choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from partnerface_ns.geometry.encodings import FrequencyEncoding
from partnerface_ns.warp.part_assigner import PartWeights

_ROWS = 512
"""Rows to which a part's points are padded: a CPU's matrix library builds a kernel for each new shape."""


@dataclass
class PartDeformationConfig:
    """The local networks."""

    hidden: int = 64
    """Width of each local network."""
    num_layers: int = 2
    """Hidden layers of each local network, at least 1."""
    num_frequencies: int = 4
    """Octaves of the encoding of a point's place in its part."""
    num_ambient: int = 4
    """Ambient coordinates for the colour; 0 lets the deformation only move points."""
    offset_scale: float = 0.01
    """Largest offset along an axis, metres."""


class Deformation(NamedTuple):
    """What the deformation field says of each point."""

    offset: Float[Tensor, "points 3"]
    """Displacement in the canonical frame, metres."""
    ambient: Float[Tensor, "points ambient"]


class LocalNetworks(nn.Module):
    """K networks of equal shape, each applied to its own run of rows."""

    def __init__(self, num_parts: int, size_in: int, size_code: int, hidden: int, num_layers: int, size_out: int):
        super().__init__()
        self.position = _uniform(num_parts, hidden, size_in)
        self.code = _uniform(num_parts, hidden, size_code)
        self.bias = nn.Parameter(torch.zeros(num_parts, hidden))
        self.layers = nn.ParameterList([_uniform(num_parts, hidden, hidden) for _ in range(num_layers - 1)])
        self.layer_biases = nn.ParameterList([torch.zeros(num_parts, hidden) for _ in range(num_layers - 1)])
        self.output = nn.Parameter(torch.zeros(num_parts, size_out, hidden))

    def code_share(self, codes: Float[Tensor, "frames parts code"]) -> Float[Tensor, "parts hidden frames"]:
        """The code's share of the first layer, once for each frame and part."""
        return torch.einsum("fkc,khc->khf", codes, self.code) + self.bias[:, :, None]

    def run(
        self, x: Float[Tensor, "rows in"], frame: Int[Tensor, "rows"], share: Tensor, counts: list[int]
    ) -> Float[Tensor, "rows out"]:
        """Each network on its run of rows.

        Args:
            x: encoded places, those of one part lying together.
            frame: index of each row's frame.
            share: from `code_share`.
            counts: rows of each part.
        """
        # A frame's share is picked by a product with its unit vector, as a part of the first layer.
        position = torch.cat([self.position, share], -1)
        rows = torch.cat([x, F.one_hot(frame, share.shape[-1]).to(x.dtype)], -1)
        weights = [position, *self.layers, self.output]
        if torch.is_autocast_enabled(x.device.type):
            # All at once: autocast would cast each network's slice, and its gradient, by itself.
            dtype = torch.get_autocast_dtype(x.device.type)
            rows, weights = rows.to(dtype), [w.to(dtype) for w in weights]
        first, *hidden, last = (w.unbind() for w in weights)
        biases = [b.unbind() for b in self.layer_biases]
        found = []
        for part, h in enumerate(rows.split(counts)):
            h = F.relu(F.linear(h, first[part]))
            for weight, bias in zip(hidden, biases, strict=True):
                h = F.relu(F.linear(h, weight[part], bias[part]))
            found.append(F.linear(h, last[part]))
        return torch.cat(found)


class PartDeformation(nn.Module):
    """The blended prediction of K local networks."""

    def __init__(
        self,
        config: PartDeformationConfig,
        seeds: Float[Tensor, "parts 3"],
        code_visibility: Float[Tensor, "parts code"],
        scale: float,
    ) -> None:
        """
        Args:
            seeds: part centres, canonical frame, metres.
            code_visibility: how much of each entry of the driving code each part sees, in [0, 1].
            scale: half the canonical head's size in metres.
        """
        super().__init__()
        self.config, self.scale = config, scale
        self.register_buffer("seeds", seeds.clone())
        self.register_buffer("code_visibility", code_visibility.clone())
        self.encoding = FrequencyEncoding(config.num_frequencies)
        num_parts, size_code = code_visibility.shape
        self.networks = LocalNetworks(
            num_parts, self.encoding.size, size_code, config.hidden, config.num_layers, 3 + config.num_ambient
        )

    def forward(
        self,
        points: Float[Tensor, "points 3"],
        frame: Int[Tensor, "points"],
        codes: Float[Tensor, "frames code"],
        parts: PartWeights,
    ) -> Deformation:
        """Offset and ambient coordinates of each point.

        Args:
            points: canonical frame, metres.
            frame: index into `codes` of each point.
            codes: normalised driving codes.
            parts: the parts to evaluate for each point and their weights.
        """
        num_points, top = parts.index.shape
        flat = parts.index.flatten()
        part, order = flat.sort(stable=True)
        counts = torch.bincount(flat, minlength=self.seeds.shape[0])
        padded = counts + -counts % _ROWS
        # Where the sorted rows lie when each part's run is padded; the padding repeats the first row.
        slot = torch.arange(len(flat), device=flat.device) + ((padded - counts).cumsum(0) - (padded - counts))[part]
        runs = padded.tolist()
        row = slot.new_zeros(sum(runs)).index_copy_(0, slot, order)
        owner, part = row.div(top, rounding_mode="floor"), flat[row]
        encoded = self.encoding((points[owner] - self.seeds[part]) / self.scale)
        share = self.networks.code_share(codes[:, None] * self.code_visibility)
        found = self.networks.run(encoded, frame[owner], share, runs)
        of_point = found[torch.empty_like(slot).index_copy_(0, order, slot)].float().unflatten(0, (num_points, top))
        blended = (of_point * parts.weight[..., None]).sum(1)
        return Deformation(self.config.offset_scale * blended[:, :3].tanh(), blended[:, 3:])


class GlobalDeformation(nn.Module):
    """One network for the whole head, with about as many parameters as K local ones."""

    def __init__(self, config: PartDeformationConfig, num_parts: int, size_code: int, scale: float) -> None:
        super().__init__()
        self.config, self.scale = config, scale
        self.encoding = FrequencyEncoding(config.num_frequencies)
        size_in, size_out = self.encoding.size, 3 + config.num_ambient
        width = equal_width(num_parts, size_in + size_code, config.hidden, config.num_layers, size_out)
        self.networks = LocalNetworks(1, size_in, size_code, width, config.num_layers, size_out)

    def forward(
        self, points: Float[Tensor, "points 3"], frame: Int[Tensor, "points"], codes: Float[Tensor, "frames code"]
    ) -> Deformation:
        """As `PartDeformation`, without parts."""
        share = self.networks.code_share(codes[:, None])
        predicted = self.networks.run(self.encoding(points / self.scale), frame, share, [len(points)]).float()
        return Deformation(self.config.offset_scale * predicted[:, :3].tanh(), predicted[:, 3:])


def equal_width(num_parts: int, size_in: int, hidden: int, num_layers: int, size_out: int) -> int:
    """Width at which one network has as many parameters as `num_parts` of width `hidden` (nearest, rounded down)."""
    deep = num_layers - 1
    total = num_parts * hidden * (size_in + 1 + size_out + deep * (hidden + 1))
    linear = size_in + 1 + size_out + deep
    if deep == 0:
        return total // linear
    return int((-linear + math.sqrt(linear**2 + 4 * deep * total)) / (2 * deep))


def _uniform(num_parts: int, size_out: int, size_in: int) -> nn.Parameter:
    bound = 1 / math.sqrt(size_in)
    return nn.Parameter(torch.empty(num_parts, size_out, size_in).uniform_(-bound, bound))
