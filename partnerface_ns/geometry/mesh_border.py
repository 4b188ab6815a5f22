"""The open border of a mesh."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def border_vertices(faces: Int[np.ndarray, "faces 3"]) -> Int[np.ndarray, "border"]:
    """Indices of the vertices on edges that belong to one face only."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    return np.unique(unique[counts == 1])
