"""Areas of vertices, and connected components."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from partnerface_ns.geometry.mesh_areas import areas_of_verts, connected_components

VERTS = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 3, 0], [2, 3, 0], [5, 0, 0], [5, 0, 1], [5, 1, 0], [9, 9, 9]])
FACES = torch.tensor([[0, 1, 2], [1, 3, 2], [4, 5, 6]])


def test_each_vertex_has_a_third_of_its_triangles():
    assert_close(areas_of_verts(VERTS, FACES), torch.tensor([3, 6, 6, 3, 0.5, 0.5, 0.5, 0]) / 3)


def test_triangles_with_a_common_vertex_are_one_component():
    component = connected_components(FACES, len(VERTS))
    assert len({*component[:4].tolist()}) == len({*component[4:7].tolist()}) == 1
    assert len(component.unique()) == 3
    joined = connected_components(torch.cat([FACES, torch.tensor([[3, 5, 7]])]), len(VERTS))
    assert len(joined.unique()) == 1
