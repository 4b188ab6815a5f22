"""The open border of a mesh."""

from __future__ import annotations

import numpy as np

from partnerface_ns.geometry.mesh_border import border_vertices


def test_border_vertices_of_a_square():
    faces = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    assert border_vertices(faces).tolist() == [0, 1, 2, 3]
