"""Smooth functions on a triangle mesh.

A function x is fitted to values t of vertices with weights w. Stiffness s says how much it may differ along edges:

    minimise  sum_v w_v (x_v - t_v)^2 + sum_edges (s_a + s_b) / 2 (x_a - x_b)^2

Where weights are zero, x continues its surroundings.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import splu

_TINY = 1e-6
"""Weight of zero everywhere, for parts of the mesh without any weight."""


def fit_smooth(
    target: Float[np.ndarray, "verts channels"],
    weights: Float[np.ndarray, "verts"],
    stiffness: Float[np.ndarray, "verts"],
    faces: Int[np.ndarray, "faces 3"],
) -> Float[np.ndarray, "verts channels"]:
    """The smooth function of the module's equation, float32.

    Args:
        target: values t.
        weights: weights w, not negative.
        stiffness: s, not negative.
        faces: vertex indices.
    """
    num = len(target)
    a, b = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).T
    edges = coo_matrix((np.ones(len(a)), (a, b)), (num, num))
    a, b = ((edges + edges.T) > 0).nonzero()
    adjacency = coo_matrix(((stiffness[a] + stiffness[b]) / 2, (a, b)), (num, num))
    laplacian = diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency
    system = diags(weights.astype(np.float64) + _TINY) + laplacian
    return splu(system.tocsc()).solve((weights[:, None] * target).astype(np.float64)).astype(np.float32)
