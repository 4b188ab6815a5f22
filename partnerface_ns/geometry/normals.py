"""Normals of triangle meshes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def vertex_normals(verts: Float[Tensor, "verts 3"], faces: Int[Tensor, "faces 3"]) -> Float[Tensor, "verts 3"]:
    """Unit normals of vertices, outward, weighted by the areas of their faces; zero for vertices without a face."""
    a, b, c = verts[faces].unbind(1)
    per_face = torch.linalg.cross(b - a, c - a)
    summed = torch.zeros_like(verts).index_add(0, faces.flatten(), per_face.repeat_interleave(3, 0))
    return F.normalize(summed, dim=-1)
