"""Farthest-point sampling: a subset of points that covers all of them evenly."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sample_farthest(
    points: Float[Tensor, "points 3"],
    num: int,
    first: int = 0,
    importance: Float[Tensor, "points"] | None = None,
) -> Int[Tensor, "samples"]:
    """Indices of `num` points, each the farthest from those chosen before it. Deterministic.

    Args:
        points: candidates, in any unit.
        num: how many to choose, at least 1.
        first: index of the first one.
        importance: factor on each candidate's distance; points of larger importance are sampled more densely.
    """
    chosen = [first]
    nearest = (points - points[first]).norm(dim=1)
    for _ in range(num - 1):
        distance = nearest if importance is None else nearest * importance
        chosen.append(int(distance.argmax()))
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).norm(dim=1))
    return torch.tensor(chosen, device=points.device)
