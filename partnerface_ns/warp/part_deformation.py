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
from collections.abc import Sequence
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

_TILE = 128
"""Rows of a tile, which all belong to one part, where a GPU runs all parts at once."""


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
        self, x: Float[Tensor, "rows in"], frame: Int[Tensor, "rows"], share: Tensor, parts: RowsByPart
    ) -> Float[Tensor, "rows out"]:
        """Each network on its own rows.

        Args:
            x: encoded places, those of one part lying together.
            frame: index of each row's frame.
            share: from `code_share`.
            parts: whose the rows are.
        """
        rows, position, first_bias = x, self.position, share[..., 0]
        if share.shape[-1] > 1:
            # A frame's share is picked by a product with its unit vector, as a part of the first layer.
            rows = torch.cat([x, F.one_hot(frame, share.shape[-1]).to(x.dtype)], -1)
            position, first_bias = torch.cat([position, share], -1), None
        weights, biases = [position, *self.layers, self.output], [first_bias, *self.layer_biases, None]
        if torch.is_autocast_enabled(x.device.type):
            # All at once: autocast would cast each network's slice, and its gradient, by itself.
            dtype = torch.get_autocast_dtype(x.device.type)
            rows, weights = rows.to(dtype), [w.to(dtype) for w in weights]
        if parts.part_of_tile is not None:
            return _run_tiles(rows, weights, biases, parts.part_of_tile)
        return torch.cat(
            [
                _mlp(run, [w[part] for w in weights], [b if b is None else b[part] for b in biases])
                for part, run in enumerate(rows.split(parts.runs))
            ]
        )


def _mlp(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Tensor:
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = F.relu(F.linear(x, weight, bias))
    return F.linear(x, weights[-1])


def _run_tiles(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None], part_of_tile: Int[Tensor, "tiles"]
) -> Tensor:
    """All parts at once, tile by tile."""
    owner = F.one_hot(part_of_tile, len(weights[0])).to(x.dtype)
    # A tile's weights are picked by a product with its part's unit vector, whose gradient is a product too.
    of_tiles = lambda w: (owner @ w.to(x.dtype).flatten(1)).unflatten(1, w.shape[1:])  # noqa: E731
    x = x.unflatten(0, (len(owner), -1))
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = x @ of_tiles(weight).mT
        x = F.relu(x if bias is None else x + of_tiles(bias)[:, None])
    return (x @ of_tiles(weights[-1]).mT).flatten(0, 1)


class RowsByPart(NamedTuple):
    """Rows sorted by part, each part's padded to whole tiles by repeating the first row."""

    row: Int[Tensor, "sorted"]
    """Which row lies at each place."""
    place: Int[Tensor, "rows"]
    """Where each row lies."""
    runs: list[int]
    """Places of each part; empty where tiles are used."""
    part_of_tile: Int[Tensor, "tiles"] | None
    """Whose each tile is, where no count may decide a shape."""

    @staticmethod
    def of(part: Int[Tensor, "rows"], num_parts: int, fixed: bool = False) -> RowsByPart:
        """Sort rows by part; a GPU and `fixed` shapes use tiles."""
        tiled = part.is_cuda or fixed
        tile = _TILE if tiled else _ROWS
        part_in_order, order = part.sort(stable=True)
        bounds = torch.searchsorted(part_in_order, torch.arange(num_parts + 1, device=part.device))
        counts = bounds.diff()
        padded = counts + -counts % tile
        skipped = (padded - counts).cumsum(0) - (padded - counts)
        place_in_order = torch.arange(len(part), device=part.device) + skipped[part_in_order]
        place = torch.empty_like(part).index_copy_(0, order, place_in_order)
        # Whatever the parts' shares, their padded rows are at most so many.
        runs = [] if tiled else padded.tolist()
        num_places = (-(-len(part) // tile) + num_parts) * tile if tiled else sum(runs)
        row = part.new_zeros(num_places).index_copy_(0, place_in_order, order)
        if not tiled:
            return RowsByPart(row, place, runs, None)
        ends = padded.cumsum(0).div(tile, rounding_mode="floor")
        tiles = torch.arange(num_places // tile, device=part.device)
        return RowsByPart(row, place, [], torch.searchsorted(ends, tiles, right=True).clamp(max=num_parts - 1))


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
        fixed: bool = False,
    ) -> Deformation:
        """Offset and ambient coordinates of each point.

        Args:
            points: canonical frame, metres.
            frame: index into `codes` of each point.
            codes: normalised driving codes.
            parts: the parts to evaluate for each point and their weights.
            fixed: whether shapes are fixed (`geometry/rows.py`).
        """
        num_points, top = parts.index.shape
        flat = parts.index.flatten()
        sorted_rows = RowsByPart.of(flat, len(self.seeds), fixed)
        owner = sorted_rows.row.div(top, rounding_mode="floor")
        seeds = self.seeds[flat[sorted_rows.row]]
        encoded = self.encoding((points.index_select(0, owner) - seeds) / self.scale)
        share = self.networks.code_share(codes[:, None] * self.code_visibility)
        found = self.networks.run(encoded, frame[owner], share, sorted_rows)
        of_point = found.index_select(0, sorted_rows.place).float().unflatten(0, (num_points, top))
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
        everything = RowsByPart(frame, frame, [len(points)], None)
        predicted = self.networks.run(self.encoding(points / self.scale), frame, share, everything).float()
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
