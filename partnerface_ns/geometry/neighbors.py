"""Nearest vertices of query points: a KD-tree on the CPU, brute force on a GPU. Both give the same result.

Neither is differentiable: indices and distances are returned without a graph.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor

_PAIRS_AT_ONCE = 2**27
"""Point-vertex pairs per chunk on a GPU; their distances take 0.5 GB in float32."""


class Neighbors(NamedTuple):
    """The nearest vertices of each point, nearest first."""

    distance: Float[Tensor, "points neighbors"]
    index: Int[Tensor, "points neighbors"]


class VertexIndex:
    """Finds the nearest vertices in one set of vertices."""

    def __init__(self, verts: Float[Tensor, "verts 3"]) -> None:
        self._verts = verts.detach()
        # An unbalanced tree takes a fifth of the time to build and answers queries as fast.
        self._tree = (
            None
            if verts.is_cuda
            else KDTree(self._verts.numpy(), leafsize=16, balanced_tree=False, compact_nodes=False)
        )

    def query(self, points: Float[Tensor, "points 3"], num_neighbors: int) -> Neighbors:
        """The `num_neighbors` (at least two) nearest vertices of each point; distances in the points' unit."""
        points = points.detach()
        if self._tree is None:
            return self._brute_force(points, num_neighbors)
        workers = torch.get_num_threads()
        distance, index = self._tree.query(points.numpy(), k=num_neighbors, workers=workers)
        return Neighbors(torch.from_numpy(distance.astype(np.float32)), torch.from_numpy(index))

    def _brute_force(self, points: Tensor, num_neighbors: int) -> Neighbors:
        chunk = max(1, _PAIRS_AT_ONCE // self._verts.shape[0])
        nearest = [torch.cdist(p, self._verts).topk(num_neighbors, largest=False) for p in points.split(chunk)]
        return Neighbors(torch.cat([n.values for n in nearest]), torch.cat([n.indices for n in nearest]))
