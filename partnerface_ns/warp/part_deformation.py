"""Part-based deformation field: K local networks, each for one part of the face.

    Delta(c, s) = rho tanh(sum_k w_k(c) f_k(c - c_k, s_k))

with rho the largest offset, w the part assigner's weights, c_k the seed and f_k the network of part k. s_k is the
driving code as part k sees it: each entry times its visibility. The first layer of a network is the sum of a position
term, computed for each point, and a code term, computed once for each frame and part. Points are sorted by part, so
each network runs once and over its own points only. The last layers start at zero, so the warp starts as the identity.

With `num_bases`, the code is no input of the networks. They give bases, and the code mixes them linearly
(`BasisMixing`).

A network also predicts a few ambient coordinates. They describe appearance that changes with the expression and that no
displacement explains, such as the shading of a wrinkle. `GlobalDeformation` is a baseline: one network with as many
parameters.

Points are metres in the canonical frame. The method's paper publishes the sum over local networks. Sizes, the split
first layer, the ambient coordinates and the visibility of the code are our choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from partnerface_ns.geometry.encodings import FrequencyEncoding
from partnerface_ns.geometry.rows import Rows
from partnerface_ns.warp.local_networks import LocalNetworks, RowsByPart, uniform_weights
from partnerface_ns.warp.part_assigner import PartWeights


@dataclass
class PartDeformationConfig:
    """Sizes and rectifiers of the deformation networks."""

    ABSENT: ClassVar[dict[str, float]] = {"slope": 0.0}
    """Values of settings that older avatars do not store."""

    hidden: int = 64
    """Width of each local network."""
    num_layers: int = 2
    """Hidden layers of each local network, at least 1."""
    slope: float = 0.1
    """Slope of the rectifiers for negative inputs. With 0, a unit that is zero for every input never learns again."""
    num_frequencies: int = 4
    """Octaves of the encoding of a point's position in its part."""
    num_ambient: int = 4
    """Number of ambient coordinates, which are inputs of the colour; 0 for none."""
    num_bases: int = 0
    """Bases of each local network, whose coefficients are linear in the driving code; 0 makes the code an input."""
    node_spacing: float = 0.0
    """Distance in metres between nodes at which the networks are computed, and interpolated; 0 computes every point."""
    offset_scale: float = 0.01
    """Largest offset along an axis, metres."""


class Deformation(NamedTuple):
    """Offset and ambient coordinates of each point."""

    offset: Float[Tensor, "points 3"]
    """Displacement in the canonical frame, metres."""
    ambient: Float[Tensor, "points ambient"]
    """Coordinates of the expression-dependent appearance."""


class BasisMixing(nn.Module):
    """Mixes the bases of local networks with coefficients that are linear in the driving code.

        f_k(x, s) = sum_b (A_k s + a_k)_b f_kb(x)

    An unseen expression therefore extrapolates linearly.
    """

    def __init__(self, num_parts: int, size_code: int, num_bases: int) -> None:
        """
        Args:
            num_parts: K.
            size_code: size of a driving code.
            num_bases: B.
        """
        super().__init__()
        self.num_bases = num_bases
        self.linear = uniform_weights(num_parts, num_bases, size_code)
        self.constant = nn.Parameter(torch.zeros(num_parts, num_bases))
        nn.init.ones_(self.constant[:, 0])

    def forward(
        self,
        bases: Float[Tensor, "rows bases_out"],
        codes: Float[Tensor, "frames parts code"],
        frame: Int[Tensor, "rows"],
        part: Int[Tensor, "rows"],
    ) -> Float[Tensor, "rows out"]:
        """Mix the bases of each row.

        Args:
            bases: outputs of the local networks, the bases one after another.
            codes: the entries of each frame's driving code that each part sees.
            frame: index of each row's frame.
            part: part of each row.
        """
        of_row = self._coefficients(codes).flatten(0, 1).index_select(0, frame * codes.shape[1] + part)
        return torch.einsum("rb,rbo->ro", of_row.to(bases.dtype), bases.unflatten(1, (self.num_bases, -1)))

    def of_all_frames(
        self,
        bases: Float[Tensor, "rows bases_out"],
        codes: Float[Tensor, "frames parts code"],
        part: Int[Tensor, "rows"],
    ) -> Float[Tensor, "frames rows out"]:
        """Mix the bases of each row for each frame; arguments as for `forward`."""
        of_row = self._coefficients(codes).index_select(1, part)
        return torch.einsum("frb,rbo->fro", of_row.to(bases.dtype), bases.unflatten(1, (self.num_bases, -1)))

    def _coefficients(self, codes: Float[Tensor, "frames parts code"]) -> Float[Tensor, "frames parts bases"]:
        return torch.einsum("fkc,kbc->fkb", codes, self.linear) + self.constant


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
        size_out, num_bases = 3 + config.num_ambient, config.num_bases
        # With bases, the networks are functions of the position alone.
        self.networks = LocalNetworks(
            num_parts,
            self.encoding.size,
            0 if num_bases else size_code,
            config.hidden,
            config.num_layers,
            size_out * max(num_bases, 1),
            config.slope,
        )
        self.mixing = BasisMixing(num_parts, size_code, num_bases) if num_bases else None

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
        return self.bounded(self._blended(points, frame, codes, parts, fixed))

    def _blended(
        self, points: Tensor, frame: Tensor, codes: Tensor, parts: PartWeights, fixed: bool
    ) -> Float[Tensor, "points out"]:
        num_points, top = parts.index.shape
        weighted = Rows(parts.weight.flatten() > 0, fixed)
        part, weight = weighted.gather(parts.index.flatten()), weighted.gather(parts.weight.flatten())
        sorted_rows = RowsByPart.of(part, len(self.seeds), fixed)
        point, part_of_row = weighted.index[sorted_rows.row].div(top, rounding_mode="floor"), part[sorted_rows.row]
        encoded = self.encoding((points.index_select(0, point) - self.seeds[part_of_row]) / self.scale)
        visible = codes[:, None] * self.code_visibility
        predicted = self.networks.run(encoded, frame[point], self.networks.code_term(visible), sorted_rows)
        if self.mixing is not None:
            predicted = self.mixing(predicted, visible, frame[point], part_of_row)
        of_rows = predicted.index_select(0, sorted_rows.position).float() * weight[:, None]
        return (
            weighted.scatter(of_rows.new_zeros(num_points * top, of_rows.shape[1]), of_rows)
            .unflatten(0, (num_points, top))
            .sum(1)
        )

    def bounded(self, blended: Float[Tensor, "points out"]) -> Deformation:
        """Offset and ambient coordinates from the blended outputs of the networks."""
        return Deformation(self.config.offset_scale * blended[:, :3].tanh(), blended[:, 3:])

    def on_nodes(
        self, points: Float[Tensor, "nodes 3"], codes: Float[Tensor, "frames code"], parts: PartWeights
    ) -> Float[Tensor, "frames nodes out"]:
        """Blended outputs of the networks at points that are the same in all frames; arguments as for `forward`.

        Bases are computed once for all frames.
        """
        num_points, top = parts.index.shape
        if self.mixing is None:
            num_frames = len(codes)
            frame = torch.arange(num_frames, device=points.device).repeat_interleave(num_points)
            repeated = PartWeights(parts.index.repeat(num_frames, 1), parts.weight.repeat(num_frames, 1))
            blended = self._blended(points.repeat(num_frames, 1), frame, codes, repeated, False)
            return blended.unflatten(0, (num_frames, num_points))
        part = parts.index.flatten()
        sorted_rows = RowsByPart.of(part, len(self.seeds))
        point, part_of_row = sorted_rows.row.div(top, rounding_mode="floor"), part[sorted_rows.row]
        encoded = self.encoding((points.index_select(0, point) - self.seeds[part_of_row]) / self.scale)
        visible = codes[:, None] * self.code_visibility
        bases = self.networks.run(encoded, part_of_row, self.networks.code_term(visible), sorted_rows)
        mixed = self.mixing.of_all_frames(bases, visible, part_of_row)
        per_part = mixed.index_select(1, sorted_rows.position).float().unflatten(1, (num_points, top))
        return (per_part * parts.weight[..., None]).sum(2)


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
        self.networks = LocalNetworks(1, size_in, size_code, width, config.num_layers, size_out, config.slope)

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
