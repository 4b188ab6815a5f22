"""Local networks: K small networks of equal shape, each applied to its own rows.

Rows are sorted by part and each network runs once. The first layer is the sum of a position term, computed for each
row, and a code term, computed once for each frame and part. Rectifiers are leaky. With plain rectifiers, most units of
parts away from the mouth reached zero for every input, where they have no gradient and never return.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

_ROWS = 512
"""Each part's rows are padded to a multiple of this under autocast on a CPU: oneDNN compiles a new kernel for every new
shape. In float32 they are not padded."""
_TILE = 128
"""Rows of a tile, which belong to one part. A GPU runs the tiles of all parts at once."""


class LocalNetworks(nn.Module):
    """K networks of equal shape, each applied to its own rows."""

    def __init__(
        self,
        num_parts: int,
        size_in: int,
        size_code: int,
        hidden: int,
        num_layers: int,
        size_out: int,
        slope: float,
    ) -> None:
        """
        Args:
            num_parts: K.
            size_in: size of an encoded position.
            size_code: size of a driving code; 0 for networks of the position alone.
            hidden: width of each network.
            num_layers: hidden layers, at least 1.
            size_out: size of the output.
            slope: slope of the rectifiers for negative inputs.
        """
        super().__init__()
        self.slope = slope
        self.position = uniform_weights(num_parts, hidden, size_in)
        self.code = uniform_weights(num_parts, hidden, size_code) if size_code else None
        self.bias = nn.Parameter(torch.zeros(num_parts, hidden))
        self.layers = nn.ParameterList([uniform_weights(num_parts, hidden, hidden) for _ in range(num_layers - 1)])
        self.layer_biases = nn.ParameterList([torch.zeros(num_parts, hidden) for _ in range(num_layers - 1)])
        self.output = nn.Parameter(torch.zeros(num_parts, size_out, hidden))

    def code_term(self, codes: Float[Tensor, "frames parts code"]) -> Float[Tensor, "parts hidden terms"]:
        """The code's term of the first layer, bias included, for each frame and part; one for all without a code."""
        if self.code is None:
            return self.bias[:, :, None]
        return torch.einsum("fkc,khc->khf", codes, self.code) + self.bias[:, :, None]

    def run(
        self,
        encoded: Float[Tensor, "rows in"],
        frame: Int[Tensor, "rows"],
        code_term: Float[Tensor, "parts hidden terms"],
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
            return _run_tiles(rows, weights, biases, parts.part_of_tile, self.slope)
        return torch.cat(
            [
                _mlp(run, [w[part] for w in weights], [b if b is None else b[part] for b in biases], self.slope)
                for part, run in enumerate(rows.split(parts.run_lengths))
            ]
        )


def _mlp(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None], slope: float) -> Tensor:
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = F.leaky_relu(F.linear(x, weight, bias), slope, inplace=True)
    return F.linear(x, weights[-1])


def _run_tiles(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    part_of_tile: Int[Tensor, "tiles"],
    slope: float,
) -> Tensor:
    """Apply all networks at once, as one batched product over tiles."""
    owner = F.one_hot(part_of_tile, len(weights[0])).to(x.dtype)

    def gather_tiles(values: Tensor) -> Tensor:
        # A product with one-hot vectors; its gradient is a product as well.
        return (owner @ values.to(x.dtype).flatten(1)).unflatten(1, values.shape[1:])

    hidden = x.unflatten(0, (len(owner), -1))
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        hidden = hidden @ gather_tiles(weight).mT
        hidden = F.leaky_relu(hidden if bias is None else hidden + gather_tiles(bias)[:, None], slope)
    return (hidden @ gather_tiles(weights[-1]).mT).flatten(0, 1)


class RowsByPart(NamedTuple):
    """Rows sorted by part. Each part may be padded with copies of row 0, to a multiple of a fixed size."""

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
        """Sort rows by part. Autocast decides about the padding, so call it where the networks run.

        Args:
            part: part of each row.
            num_parts: K.
            fixed: whether shapes are fixed (`geometry/rows.py`). Fixed shapes and GPUs use tiles.
        """
        tiled = part.is_cuda or fixed
        multiple = _ROWS if torch.is_autocast_enabled(part.device.type) else 1
        tile = _TILE if tiled else multiple
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


def uniform_weights(num_parts: int, size_out: int, size_in: int) -> nn.Parameter:
    """Weights of a linear layer of K networks, uniform within 1 / sqrt(size_in), (parts, out, in)."""
    bound = 1 / math.sqrt(size_in)
    return nn.Parameter(torch.empty(num_parts, size_out, size_in).uniform_(-bound, bound))
