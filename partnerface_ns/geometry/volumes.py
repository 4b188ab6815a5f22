"""Reading values between the nodes of a regular grid in space."""

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
    """Trilinear values of a volume at points.

    On a CPU `grid_sample` gives each item of the batch to one thread, so one volume would be read by one thread
    alone: the points are dealt out to as many views of it as there are threads.

    Args:
        volume: values at nodes.
        at: x, y, z of each point; -1 is the first node of an axis and 1 the last.
        padding: what is read outside.
    """
    num_views = 1 if volume.is_cuda else torch.get_num_threads()
    dealt = F.pad(at, (0, 0, 0, -len(at) % num_views)).view(num_views, 1, 1, -1, 3)
    views = volume.expand(num_views, *volume.shape)
    read = F.grid_sample(views, dealt, align_corners=True, padding_mode=padding)
    return read[:, :, 0, 0].transpose(0, 1).flatten(1)[:, : len(at)]
