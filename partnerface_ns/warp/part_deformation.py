"""Part-based deformation field: K local networks, each for one part of the face.

    Delta(c, s) = rho tanh(sum_k w_k(c) f_k(c - c_k, s_k))

with rho the largest offset, w the part assigner's weights, c_k the seed and f_k the network of part k. s_k is the
driving code as part k sees it: each entry times its visibility. The first layer of a network is the sum of a position
term, computed for each point, and a code term, computed once for each frame and part. Points are sorted by part, so
each network runs once and over its own points only. The last layers start at zero, so the warp starts as the identity.

A network also predicts a few ambient coordinates. They describe appearance that changes with the expression and that no
displacement explains, such as the shading of a wrinkle. `GlobalDeformation` is a baseline: one network with as many
parameters.

Points are metres in the canonical frame. The method's paper publishes the sum over local networks. Sizes, the split
first layer, the ambient coordinates and the visibility of the code are our choice.
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
"""Each part's points are padded to a multiple of this on a CPU. oneDNN compiles a new kernel for every new shape."""
_TILE = 128
"""Rows of a tile, which belong to one part. A GPU runs the tiles of all parts at once."""


@dataclass
class PartDeformationConfig:
    """Sizes of the deformation networks."""

    hidden: int = 64
    """Width of each local network."""
    num_layers: int = 2
    """Hidden layers of each local network, at least 1."""
    num_frequencies: int = 4
    """Octaves of the encoding of a point's position in its part."""
    num_ambient: int = 4
    """Number of ambient coordinates, which are inputs of the colour; 0 for none."""
    offset_scale: float = 0.01
    """Largest offset along an axis, metres."""


class Deformation(NamedTuple):
    """Offset and ambient coordinates of each point."""

    offset: Float[Tensor, "points 3"]
    """Displacement in the canonical frame, metres."""
    ambient: Float[Tensor, "points ambient"]
    """Coordinates of the expression-dependent appearance."""


class LocalNetworks(nn.Module):
    """K networks of equal shape, each applied to its own rows."""

    def __init__(
        self, num_parts: int, size_in: int, size_code: int, hidden: int, num_layers: int, size_out: int
    ) -> None:
        """
        Args:
            num_parts: K.
            size_in: size of an encoded position.
            size_code: size of a driving code.
            hidden: width of each network.
            num_layers: hidden layers, at least 1.
            size_out: size of the output.
        """
        super().__init__()
        self.position = _uniform(num_parts, hidden, size_in)
        self.code = _uniform(num_parts, hidden, size_code)
        self.bias = nn.Parameter(torch.zeros(num_parts, hidden))
        self.layers = nn.ParameterList([_uniform(num_parts, hidden, hidden) for _ in range(num_layers - 1)])
        self.layer_biases = nn.ParameterList([torch.zeros(num_parts, hidden) for _ in range(num_layers - 1)])
        self.output = nn.Parameter(torch.zeros(num_parts, size_out, hidden))

    def code_term(self, codes: Float[Tensor, "frames parts code"]) -> Float[Tensor, "parts hidden frames"]:
        """The code's term of the first layer, bias included, for each frame and part."""
        return torch.einsum("fkc,khc->khf", codes, self.code) + self.bias[:, :, None]

    def run(
        self,
        encoded: Float[Tensor, "rows in"],
        frame: Int[Tensor, "rows"],
        code_term: Float[Tensor, "parts hidden frames"],
        parts: RowsByPart,
    ) -> Float[Tensor, "rows out"]:
        """Apply each network to its own rows.

        Args:
            encoded: encoded positions, sorted by part.
            frame: index of each row's frame.
            code_term: from `code_term`.
            parts: the rows of each part.
        """
        rows, position, first_bias = encoded, self.position, code_term[..., 0]
        if code_term.shape[-1] > 1:
            # The first layer selects a frame's term by a product with the frame's one-hot vector.
            rows = torch.cat([encoded, F.one_hot(frame, code_term.shape[-1]).to(encoded.dtype)], -1)
            position, first_bias = torch.cat([position, code_term], -1), None
        weights, biases = [position, *self.layers, self.output], [first_bias, *self.layer_biases, None]
        if torch.is_autocast_enabled(encoded.device.type):
            # Cast all networks at once. Autocast would cast each slice, and its gradient, separately.
            dtype = torch.get_autocast_dtype(encoded.device.type)
            rows, weights = rows.to(dtype), [w.to(dtype) for w in weights]
        if parts.part_of_tile is not None:
            return _run_tiles(rows, weights, biases, parts.part_of_tile)
        return torch.cat(
            [
                _mlp(run, [w[part] for w in weights], [b if b is None else b[part] for b in biases])
                for part, run in enumerate(rows.split(parts.run_lengths))
            ]
        )


def _mlp(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Tensor:
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = F.relu(F.linear(x, weight, bias))
    return F.linear(x, weights[-1])


def _run_tiles(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None], part_of_tile: Int[Tensor, "tiles"]
) -> Tensor:
    """Apply all networks at once, as one batched product over tiles."""
    owner = F.one_hot(part_of_tile, len(weights[0])).to(x.dtype)

    def gather_tiles(values: Tensor) -> Tensor:
        # A product with one-hot vectors; its gradient is a product as well.
        return (owner @ values.to(x.dtype).flatten(1)).unflatten(1, values.shape[1:])

    hidden = x.unflatten(0, (len(owner), -1))
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        hidden = hidden @ gather_tiles(weight).mT
        hidden = F.relu(hidden if bias is None else hidden + gather_tiles(bias)[:, None])
    return (hidden @ gather_tiles(weights[-1]).mT).flatten(0, 1)


class RowsByPart(NamedTuple):
    """Rows sorted by part. Each part is padded to a multiple of a fixed size with copies of row 0."""

    row: Int[Tensor, "sorted"]
    """Index of the row at each sorted position."""
    position: Int[Tensor, "rows"]
    """Sorted position of each row."""
    run_lengths: list[int]
    """Number of sorted positions of each part; empty with tiles."""
    part_of_tile: Int[Tensor, "tiles"] | None
    """Part of each tile; None without tiles."""

    @staticmethod
    def of(part: Int[Tensor, "rows"], num_parts: int, fixed: bool = False) -> RowsByPart:
        """Sort rows by part.

        Args:
            part: part of each row.
            num_parts: K.
            fixed: whether shapes are fixed (`geometry/rows.py`). Fixed shapes and GPUs use tiles.
        """
        tiled = part.is_cuda or fixed
        tile = _TILE if tiled else _ROWS
        part_in_order, order = part.sort(stable=True)
        bounds = torch.searchsorted(part_in_order, torch.arange(num_parts + 1, device=part.device))
        counts = bounds.diff()
        padded = counts + -counts % tile
        skipped = (padded - counts).cumsum(0) - (padded - counts)
        ordered_position = torch.arange(len(part), device=part.device) + skipped[part_in_order]
        position = torch.empty_like(part).index_copy_(0, order, ordered_position)
        run_lengths = [] if tiled else padded.tolist()
        # With tiles, the upper bound of the padded rows over all distributions of rows over parts.
        num_sorted = (-(-len(part) // tile) + num_parts) * tile if tiled else sum(run_lengths)
        row = part.new_zeros(num_sorted).index_copy_(0, ordered_position, order)
        if not tiled:
            return RowsByPart(row, position, run_lengths, None)
        ends = padded.cumsum(0).div(tile, rounding_mode="floor")
        tiles = torch.arange(num_sorted // tile, device=part.device)
        return RowsByPart(row, position, [], torch.searchsorted(ends, tiles, right=True).clamp(max=num_parts - 1))


class PartDeformation(nn.Module):
    """Blended predictions of K local networks."""

    seeds: Tensor
    code_visibility: Tensor

    def __init__(
        self,
        config: PartDeformationConfig,
        seeds: Float[Tensor, "parts 3"],
        code_visibility: Float[Tensor, "parts code"],
        scale: float,
    ) -> None:
        """
        Args:
            config: sizes.
            seeds: part centres, canonical frame, metres.
            code_visibility: visibility in [0, 1] of each entry of the driving code to each part.
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
        part = parts.index.flatten()
        sorted_rows = RowsByPart.of(part, len(self.seeds), fixed)
        point = sorted_rows.row.div(top, rounding_mode="floor")
        seeds = self.seeds[part[sorted_rows.row]]
        encoded = self.encoding((points.index_select(0, point) - seeds) / self.scale)
        code_term = self.networks.code_term(codes[:, None] * self.code_visibility)
        predicted = self.networks.run(encoded, frame[point], code_term, sorted_rows)
        per_part = predicted.index_select(0, sorted_rows.position).float().unflatten(0, (num_points, top))
        blended = (per_part * parts.weight[..., None]).sum(1)
        return Deformation(self.config.offset_scale * blended[:, :3].tanh(), blended[:, 3:])


class GlobalDeformation(nn.Module):
    """Baseline: one network for the whole head, with about as many parameters as K local ones."""

    def __init__(self, config: PartDeformationConfig, num_parts: int, size_code: int, scale: float) -> None:
        """
        Args:
            config: sizes of the local networks.
            num_parts: K.
            size_code: size of a driving code.
            scale: half the canonical head's size in metres.
        """
        super().__init__()
        self.config, self.scale = config, scale
        self.encoding = FrequencyEncoding(config.num_frequencies)
        size_in, size_out = self.encoding.size, 3 + config.num_ambient
        width = equal_width(num_parts, size_in + size_code, config.hidden, config.num_layers, size_out)
        self.networks = LocalNetworks(1, size_in, size_code, width, config.num_layers, size_out)

    def forward(
        self, points: Float[Tensor, "points 3"], frame: Int[Tensor, "points"], codes: Float[Tensor, "frames code"]
    ) -> Deformation:
        """Offset and ambient coordinates of each point; arguments as for `PartDeformation`."""
        code_term = self.networks.code_term(codes[:, None])
        one_part = RowsByPart(frame, frame, [len(points)], None)
        predicted = self.networks.run(self.encoding(points / self.scale), frame, code_term, one_part).float()
        return Deformation(self.config.offset_scale * predicted[:, :3].tanh(), predicted[:, 3:])


def equal_width(num_parts: int, size_in: int, hidden: int, num_layers: int, size_out: int) -> int:
    """Largest width at which one network has at most as many parameters as `num_parts` networks of width `hidden`."""
    deep = num_layers - 1
    total = num_parts * hidden * (size_in + 1 + size_out + deep * (hidden + 1))
    linear = size_in + 1 + size_out + deep
    if deep == 0:
        return total // linear
    return int((-linear + math.sqrt(linear**2 + 4 * deep * total)) / (2 * deep))


def _uniform(num_parts: int, size_out: int, size_in: int) -> nn.Parameter:
    bound = 1 / math.sqrt(size_in)
    return nn.Parameter(torch.empty(num_parts, size_out, size_in).uniform_(-bound, bound))
