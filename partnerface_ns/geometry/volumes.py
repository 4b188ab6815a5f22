"""Values on the nodes of a regular 3D grid: interpolation, upsampling and dilation."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def read_volume(
    volume: Float[Tensor, "channels z y x"],
    at: Float[Tensor, "points 3"],
    padding: Literal["zeros", "border"],
) -> Float[Tensor, "channels points"]:
    """Interpolate a volume trilinearly at points.

    On a CPU `grid_sample` uses one thread per batch item. The points are therefore split over as many views of the
    volume as there are threads. Several channels are read from two neighbouring slices along z, because PyTorch has
    vector instructions for 2D grids only.

    Args:
        volume: values at nodes.
        at: x, y, z of each point; -1 is the first node of an axis and 1 the last.
        padding: values outside: zero, or those of the border.
    """
    if volume.is_cuda or len(volume) == 1 or min(volume.shape[1:]) == 1:
        return _sample(volume, at, padding)
    values = _read_slices(volume, at)
    if padding == "border":
        return values
    # The values of the border fall to zero over a cell.
    cells = (torch.tensor(volume.shape[:0:-1], device=at.device) - 1) / 2
    return values * (1 - (at.abs() - 1).clamp(min=0) * cells).clamp(min=0).prod(1)


def _read_slices(
    volume: Float[Tensor, "channels z y x"], at: Float[Tensor, "points 3"]
) -> Float[Tensor, "channels points"]:
    """`read_volume` with the padding "border": linear between bilinear reads of two slices, stacked along y."""
    num_z, num_y = volume.shape[1:3]
    z, y = (((at[:, i] + 1) * ((num - 1) / 2)).clamp(0, num - 1) for i, num in ((2, num_z), (1, num_y)))
    below = z.detach().floor().clamp(max=num_z - 2)
    rows = num_z * num_y
    row = (below * num_y + y) * (2 / (rows - 1)) - 1
    x = at[:, 0].expand(2, -1).flatten()
    # At a NaN, the backward pass of grid_sample writes outside the volume. The values are NaN by `z` all the same.
    positions = torch.stack([x, torch.cat([row, row + 2 * num_y / (rows - 1)])], -1).nan_to_num()
    lower, upper = _sample(volume.flatten(1, 2), positions, "border").unflatten(1, (2, len(at))).unbind(1)
    return torch.lerp(lower, upper, z - below)


def _sample(
    volume: Float[Tensor, "channels *axes"], at: Float[Tensor, "points dim"], padding: str
) -> Float[Tensor, "channels points"]:
    """`grid_sample` on all threads."""
    num_views = 1 if volume.is_cuda else torch.get_num_threads()
    chunks = F.pad(at, (0, 0, 0, -len(at) % num_views)).view(num_views, *[1] * (at.shape[1] - 1), -1, at.shape[1])
    views = volume.expand(num_views, *volume.shape)
    values = F.grid_sample(views, chunks, align_corners=True, padding_mode=padding)
    return values.flatten(2).transpose(0, 1).flatten(1)[:, : len(at)]


def refine(
    volumes: Float[Tensor, "*batch coarse_z coarse_y coarse_x"], shape: tuple[int, int, int]
) -> Float[Tensor, "*batch z y x"]:
    """Resample trilinearly to a grid of another shape over the same box, like `F.interpolate`.

    On a CPU it multiplies matrices axis by axis, which takes a third of the time of `F.interpolate`.
    """
    if volumes.is_cuda:
        return F.interpolate(volumes, size=shape, mode="trilinear", align_corners=False)
    for axis, num in zip((-3, -2, -1), shape, strict=True):
        unit = torch.eye(volumes.shape[axis], dtype=volumes.dtype)
        weights = F.interpolate(unit[None], size=num, mode="linear", align_corners=False)[0]
        volumes = (volumes.movedim(axis, -1) @ weights).movedim(-1, axis)
    return volumes


def dilate(values: Float[Tensor, "x y z"]) -> Float[Tensor, "x y z"]:
    """The maximum over each node and its 26 neighbours."""
    for axis, num in enumerate(values.shape):  # on a CPU much faster than max pooling
        largest = values.clone()
        lower, upper = (values.narrow(axis, start, num - 1) for start in (0, 1))
        largest.narrow(axis, 1, num - 1).copy_(torch.maximum(lower, upper))
        first = largest.narrow(axis, 0, num - 1)
        first.copy_(torch.maximum(first, upper))
        values = largest
    return values
