"""Mesh pieces of the open head: cutting, subdividing, eyeballs, smoothing; everything linear in the source vertices.

A `Piece` holds, for each of its vertices, a sparse row of weights over the source vertices. Whatever is known at the
source (positions, targets, rig weights, masks) is carried over by one product, so that cut edges and generated
vertices follow every target by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse


@dataclass(frozen=True)
class Piece:
    """Polygons over vertices that are linear in the source's vertices."""

    rows: sparse.csr_matrix
    """(verts, source verts)."""
    polygons: list[list[int]]

    @staticmethod
    def of(polygons: list[list[int]], num_source: int) -> Piece:
        """The polygons of the source as they are."""
        used, local = np.unique(np.concatenate(polygons), return_inverse=True)
        ends = np.cumsum([len(p) for p in polygons])[:-1]
        rows = sparse.csr_matrix((np.ones(len(used)), (np.arange(len(used)), used)), shape=(len(used), num_source))
        return Piece(rows, [p.tolist() for p in np.split(local, ends)])

    def triangles(self, positions: np.ndarray) -> np.ndarray:
        """Triangles (faces, 3) at the given positions: quads along their shorter diagonal, larger ones as fans."""
        faces = []
        for p in self.polygons:
            if len(p) == 4:
                first, second = (np.linalg.norm(positions[p[i]] - positions[p[i + 2]]) for i in (0, 1))
                # Equal to a micrometre goes one way: mirrored quads must not depend on rounding.
                p = p if first <= second + 1e-6 else p[1:] + p[:1]
            faces += [[p[0], p[i], p[i + 1]] for i in range(1, len(p) - 1)]
        return np.array(faces)


def cut(piece: Piece, height: np.ndarray, snap: float) -> Piece:
    """Keep the part where `height` (verts,) is positive, slicing the edges that cross zero.

    Vertices within `snap` of zero are counted as on the cut, against sliver faces.
    """
    height = np.where(np.abs(height) < snap, 0.0, height)
    rows, new_vertex, polygons = list(piece.rows), {}, []

    def crossing(a: int, b: int) -> int:
        key = (min(a, b), max(a, b))
        if key not in new_vertex:
            share = height[a] / (height[a] - height[b])
            new_vertex[key] = len(rows)
            rows.append(piece.rows[a] * (1 - share) + piece.rows[b] * share)
        return new_vertex[key]

    for polygon in piece.polygons:
        kept = []
        for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            if height[a] >= 0:
                kept.append(a)
            if height[a] * height[b] < 0:
                kept.append(crossing(a, b))
        if len(kept) >= 3 and max(height[p] if p < len(height) else 0.0 for p in kept) > 0:
            polygons.append(kept)
    kept_piece = Piece.of(polygons, len(rows))
    return Piece((kept_piece.rows @ sparse.vstack(rows)).tocsr(), kept_piece.polygons)


def subdivide(piece: Piece) -> Piece:
    """One Catmull-Clark step; open borders keep their line."""
    num, edges = piece.rows.shape[0], {}
    for index, p in enumerate(piece.polygons):
        for a, b in zip(p, p[1:] + p[:1], strict=True):
            edges.setdefault((min(a, b), max(a, b)), []).append(index)
    faces = _averages(piece.polygons, num)
    ends = list(edges)
    edge_id = {edge: i for i, edge in enumerate(ends)}
    middle = _averages(ends, num)
    border = np.array([len(f) == 1 for f in edges.values()])
    around = _averages([f if len(f) > 1 else [f[0], f[0]] for f in edges.values()], len(piece.polygons)) @ faces
    edge_points = _blend(middle, around, np.where(border, 0.0, 0.5))

    vertex_faces = [[] for _ in range(num)]
    vertex_edges = [[] for _ in range(num)]
    for index, p in enumerate(piece.polygons):
        for v in p:
            vertex_faces[v].append(index)
    for i, edge in enumerate(ends):
        for v in edge:
            vertex_edges[v].append(i)
    on_border = np.zeros(num, dtype=bool)
    on_border[np.unique([ends[i] for i in np.flatnonzero(border)])] = True
    border_edges = [[i for i in e if border[i]] if on_border[v] else e for v, e in enumerate(vertex_edges)]
    valence = np.array([len(e) for e in vertex_edges], dtype=np.float64)
    identity = sparse.identity(num, format="csr")
    ring = _averages(border_edges, len(ends)) @ middle
    inner = (
        sparse.diags(1 / valence) @ (_averages(vertex_faces, len(piece.polygons)) @ faces)
        + sparse.diags(2 / valence) @ ring
        + sparse.diags(1 - 3 / valence) @ identity
    )
    vertex_points = _blend(inner, (identity + ring) / 2, on_border.astype(float))

    offset_edge, offset_face = num, num + len(ends)
    quads = []
    for index, p in enumerate(piece.polygons):
        mid = [offset_edge + edge_id[min(a, b), max(a, b)] for a, b in zip(p, p[1:] + p[:1], strict=True)]
        quads += [[v, mid[i], offset_face + index, mid[i - 1]] for i, v in enumerate(p)]
    return Piece((sparse.vstack([vertex_points, edge_points, faces]) @ piece.rows).tocsr(), quads)


def _averages(groups: list, num: int) -> sparse.csr_matrix:
    sizes = np.array([len(g) for g in groups])
    row = np.repeat(np.arange(len(groups)), sizes)
    return sparse.csr_matrix((1.0 / sizes[row], (row, np.concatenate(groups))), shape=(len(groups), num))


def _blend(first: sparse.csr_matrix, second: sparse.csr_matrix, share: np.ndarray) -> sparse.csr_matrix:
    return sparse.diags(1 - share) @ first + sparse.diags(share) @ second


def sphere_piece(helper: np.ndarray, positions: np.ndarray, radius_scale: float) -> Piece:
    """A finer sphere in the place of a helper sphere, following its affine motion.

    Args:
        helper: vertex indices of the helper sphere.
        positions: source positions, (source verts, 3).
        radius_scale: radius relative to the helper's.
    """
    spokes = positions[helper] - positions[helper].mean(0)
    radius = np.linalg.norm(spokes, axis=1).mean() * radius_scale
    directions, polygons = _unit_sphere(segments=28, rings=15)
    rows = 1.0 / len(helper) + radius * directions @ np.linalg.solve(spokes.T @ spokes, spokes.T)
    columns = np.tile(helper, len(directions))
    row = np.repeat(np.arange(len(directions)), len(helper))
    return Piece(sparse.csr_matrix((rows.ravel(), (row, columns)), (len(directions), len(positions))), polygons)


def _unit_sphere(segments: int, rings: int) -> tuple[np.ndarray, list[list[int]]]:
    """Unit directions and outward polygons; the poles look forward and back, rings are denser in front."""
    polar = np.pi * np.linspace(0, 1, rings + 2)[1:-1] ** 1.3
    around = 2 * np.pi * np.arange(segments) / segments
    ring = np.stack([np.cos(around), np.sin(around)], -1)
    points = [np.concatenate([np.sin(t) * ring, np.full((segments, 1), np.cos(t))], -1) for t in polar]
    directions = np.concatenate([*points, [[0, 0, 1], [0, 0, -1]]])
    front, back = len(directions) - 2, len(directions) - 1
    polygons = []
    for i in range(segments):
        j, last = (i + 1) % segments, (rings - 1) * segments
        polygons += [[front, i, j], [back, last + j, last + i]]
        for r in range(rings - 1):
            a, b = r * segments, (r + 1) * segments
            polygons.append([a + i, b + i, b + j, a + j])
    return directions, polygons


def nearest_similarity(points: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """The part of a displacement field that translates and scales the points and does nothing else.

    Args:
        points: (verts, 3).
        displacement: (verts, 3, directions).
    """
    spokes = points - points.mean(0)
    shift = displacement.mean(0)
    size = np.einsum("va,vad->d", spokes, displacement) / np.sum(spokes**2)
    return shift + spokes[..., None] * size


def smooth(values: np.ndarray, triangles: np.ndarray, steps: int) -> np.ndarray:
    """Average each vertex half with its neighbours' mean, `steps` times; values (verts, ...)."""
    num = len(values)
    a, b = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]).T
    links = sparse.csr_matrix((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, a])), (num, num))
    links.data[:] = 1.0
    mean = sparse.diags(1.0 / np.maximum(links.sum(1).A1, 1.0)) @ links
    for _ in range(steps):
        values = 0.5 * values + 0.5 * (mean @ values)
    return values
