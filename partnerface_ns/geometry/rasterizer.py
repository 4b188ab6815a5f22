"""A z-buffer rasteriser in numpy: which triangle is visible at each sample of an image.

Screen points are pixels with the origin at the image's top left corner, x right and y down. The sample of row r and
column c lies at (c + 0.5, r + 0.5). Nearness is any quantity that grows towards the viewer and is linear over a
triangle on the screen. For a perspective camera it is the inverse depth, for a parallel projection the height along the
light. Only front faces (counter-clockwise seen from outside) are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int

from partnerface_ns.geometry.camera import Intrinsics

_NO_TRIANGLE_AREA = 1e-9
"""Triangles with less than this double area in pixels are seen edge on and cover no sample."""


@dataclass(frozen=True)
class Visible:
    """The covered samples of an image and the surface point visible at each."""

    samples: Int[np.ndarray, "samples"]
    """Flat index (row * width + column) of each covered sample, ascending."""
    triangles: Int[np.ndarray, "samples"]
    corners: Int[np.ndarray, "samples 3"]
    """Vertex indices of the visible triangle."""
    weights: Float[np.ndarray, "samples 3"]
    """Barycentric weights of the corners on the surface; they sum to one."""
    nearness: Float[np.ndarray, "samples"]

    def interpolate(self, values: Float[np.ndarray, "verts channels"]) -> Float[np.ndarray, "samples channels"]:
        """Interpolate vertex values to the visible surface points."""
        w = self.weights[..., None]
        a, b, c = self.corners.T
        return values[a] * w[:, 0] + values[b] * w[:, 1] + values[c] * w[:, 2]

    def __getitem__(self, index: Int[np.ndarray, "some"]) -> Visible:
        """A subset of the samples."""
        return Visible(*(getattr(self, f.name)[index] for f in fields(self)))


def project(
    points: Float[np.ndarray, "points 3"], intrinsics: Intrinsics, T_world_camera: Float[np.ndarray, "4 4"]
) -> tuple[Float[np.ndarray, "points 2"], Float[np.ndarray, "points"]]:
    """Screen points in pixels and inverse depths (1/metre) of world points in front of a camera."""
    T_camera_world = np.linalg.inv(T_world_camera)
    p = points @ T_camera_world[:3, :3].T + T_camera_world[:3, 3]
    inverse_depth = -1.0 / p[:, 2]
    x = intrinsics.cx + intrinsics.fl_x * p[:, 0] * inverse_depth
    y = intrinsics.cy - intrinsics.fl_y * p[:, 1] * inverse_depth
    return np.stack([x, y], -1).astype(np.float32), inverse_depth.astype(np.float32)


def rasterize(
    screen: Float[np.ndarray, "verts 2"],
    nearness: Float[np.ndarray, "verts"],
    faces: Int[np.ndarray, "faces 3"],
    width: int,
    height: int,
    *,
    perspective: bool = True,
) -> Visible:
    """Find the nearest front-facing triangle at every sample.

    All triangles are tested at once, each at the samples of its bounding box.

    Args:
        screen: vertices on the screen, pixels.
        nearness: nearness of each vertex.
        faces: vertex indices of the triangles.
        width: samples per row.
        height: number of rows.
        perspective: `nearness` is an inverse depth, so the barycentric weights are corrected for perspective.
    """
    corners = [screen[faces[:, i]] for i in range(3)]
    e1, e2 = corners[1] - corners[0], corners[2] - corners[0]
    double_area = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]
    first, last = _sample_boxes(corners, width, height)
    # The y axis points down, so a counter-clockwise triangle has a negative area.
    drawn = np.flatnonzero((double_area < -_NO_TRIANGLE_AREA) & (last >= first).all(1))
    owner, x, y = _box_samples(first[drawn], last[drawn])
    w1, w2 = _screen_weights(corners[0][drawn], e1[drawn], e2[drawn], owner, x, y)
    inside = np.flatnonzero((w1 >= 0) & (w2 >= 0) & (w1 + w2 <= 1))
    owner, w1, w2 = owner[inside], w1[inside], w2[inside]
    sample = y[inside] * width + x[inside]
    n0, n1, n2 = nearness[faces[drawn]].T
    near = n0[owner] + w1 * (n1 - n0)[owner] + w2 * (n2 - n0)[owner]
    samples, visible = _nearest(sample, near, width * height)
    triangles, w1, w2 = drawn[owner[visible]], w1[visible], w2[visible]
    corners_seen = faces[triangles]
    weights = np.stack([1 - w1 - w2, w1, w2], -1)
    if perspective:
        weights = weights * nearness[corners_seen]
        weights /= weights.sum(-1, keepdims=True)
    return Visible(samples, triangles, corners_seen, weights, near[visible])


def _sample_boxes(corners: list[np.ndarray], width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last sample (x, y) of the bounding box of each triangle, inside the image."""
    size = np.array([width, height])
    low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)
    first = np.clip(np.ceil(low - 0.5), 0, size).astype(np.int32)
    last = np.clip(np.floor(high - 0.5), -1, size - 1).astype(np.int32)
    return first, last


def _nearest(sample: np.ndarray, near: np.ndarray, num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Covered samples, ascending, and for each the index of its nearest candidate in `near`."""
    nearest = np.full(num_samples, -np.inf, dtype=near.dtype)
    np.maximum.at(nearest, sample, near)
    winner = np.full(num_samples, -1, dtype=np.int64)
    wins = np.flatnonzero(near == nearest[sample])
    winner[sample[wins]] = wins
    samples = np.flatnonzero(winner >= 0)
    return samples, winner[samples]


def _box_samples(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All samples of the boxes from `first` to `last` (inclusive): index of the box, x and y."""
    box = last - first + 1
    counts = box[:, 0] * box[:, 1]
    owner = np.repeat(np.arange(len(box), dtype=np.int32), counts)
    start = np.cumsum(counts, dtype=np.int32) - counts
    position = np.arange(len(owner), dtype=np.int32) - start[owner]
    row, column = np.divmod(position, box[owner, 0])
    return owner, first[owner, 0] + column, first[owner, 1] + row


def _screen_weights(
    origin: np.ndarray, e1: np.ndarray, e2: np.ndarray, owner: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Screen-space barycentric weights of the second and third corner at sample centres."""
    double_area = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]
    e1, e2 = e1 / double_area[:, None], e2 / double_area[:, None]
    dx = x.astype(np.float32) + np.float32(0.5) - origin[owner, 0]
    dy = y.astype(np.float32) + np.float32(0.5) - origin[owner, 1]
    w1 = dx * e2[owner, 1] - dy * e2[owner, 0]
    w2 = dy * e1[owner, 0] - dx * e1[owner, 1]
    return w1, w2
