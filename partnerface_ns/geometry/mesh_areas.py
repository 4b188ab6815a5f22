"""Surface area of each vertex of a mesh, and connected components of a mesh."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix, csgraph
from torch import Tensor


def areas_of_verts(verts: Float[Tensor, "verts 3"], faces: Int[Tensor, "faces 3"]) -> Float[Tensor, "verts"]:
    """Surface area of each vertex, a third of its triangles' area, in the squared unit of the vertices."""
    a, b, c = verts[faces].unbind(1)
    third = torch.linalg.cross(b - a, c - a).norm(dim=1) / 6
    return verts.new_zeros(len(verts)).index_add(0, faces.flatten(), third.repeat_interleave(3))


def connected_components(faces: Int[Tensor, "faces 3"], num_verts: int) -> Int[Tensor, "verts"]:
    """Index of the connected component of each vertex. A vertex without faces is a component of its own."""
    first, second = faces[:, [0, 1, 2]].flatten().cpu().numpy(), faces[:, [1, 2, 0]].flatten().cpu().numpy()
    graph = coo_matrix((np.ones(len(first)), (first, second)), (num_verts, num_verts))
    component = csgraph.connected_components(graph, directed=False)[1]
    return torch.from_numpy(component.astype(np.int64)).to(faces.device)
