"""Overlap of projected heads with the images' masks, at low resolution: the measure behind the verdict on a capture.

The silhouette is that of the head without the torso. Only the mask's rows down to the lowest row of the silhouette
count, so that shoulders do not matter. Hair makes masks larger than silhouettes; wrong cameras move silhouettes out of
masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from scipy.ndimage import distance_transform_edt

from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.images import load_image
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.geometry.rasterizer import project, rasterize

SIDE = 128
"""Pixels of the longer side of compared silhouettes and masks."""
_MAX_SAMPLES = 5e6
_VERTS_STRIDE = 8
"""`outside_shares` uses one of this many vertices."""
_NEAREST = 0.02
"""Least distance in metres of a visible vertex from the camera."""


@dataclass(frozen=True)
class Overlap:
    """Overlap of a silhouette with a mask."""

    union: float
    """Intersection over union in the rows down to the chin, 0 to 1."""
    outside: float
    """Share of the head outside of the mask; 1 if no head is visible."""
    above: float = 0.0
    """How far the upper third of the head leaves the mask, as a share of the head's size."""
    hair: float = 0.0
    """How far the mask extends above the head, as a share of the head's size."""
    beside: float = 0.0
    """Share of the mask's width at the cheeks that the head does not cover."""


def head_faces(model: HeadModel) -> Int[np.ndarray, "faces 3"]:
    """Triangles of the head without the torso."""
    head = (model.regions["head"] > 0.5).numpy()
    faces = model.faces.numpy()
    return faces[head[faces].all(-1)]


def posed_verts(capture: Capture, model: HeadModel, frames: Sequence[Frame]) -> list[np.ndarray]:
    """World vertices of each frame's head, (verts, 3) metres."""
    shaped = ShapedHead.of(model, capture.identity, capture.static_offset)
    track = capture.track[torch.tensor([frame.timestep for frame in frames], dtype=torch.long)]
    verts: list[np.ndarray] = []
    for start in range(0, len(frames), 16):
        verts.extend(shaped.surface(track[slice(start, start + 16)]).numpy())
    return verts


def small_size(camera: Camera) -> tuple[int, int]:
    """Width and height of a camera's image at low resolution."""
    scale = min(1.0, SIDE / max(camera.width, camera.height))
    return max(1, round(camera.width * scale)), max(1, round(camera.height * scale))


def silhouette(
    verts: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"], camera: Camera
) -> Bool[np.ndarray, "h w"]:
    """Low-resolution pixels covered by the triangles; none if the camera is inside the head."""
    width, height = small_size(camera)
    depth = (camera.T_world_camera[:3, 3] - verts) @ camera.T_world_camera[:3, 2]
    covered = np.zeros(height * width, dtype=bool)
    if depth[faces].min() > _NEAREST:
        screen, nearness = project(verts, camera.resize(width, height).intrinsics, camera.T_world_camera)
        if _covered_samples(screen[faces], width, height) < _MAX_SAMPLES:
            covered[rasterize(screen, nearness, faces, width, height).samples] = True
    return covered.reshape(height, width)


def _covered_samples(triangles: Float[np.ndarray, "faces 3 2"], width: int, height: int) -> float:
    """Pixels in the bounding boxes of all triangles. It is huge if the camera is inside the head."""
    size = np.array([width, height])
    boxes = np.clip(triangles.max(1), 0, size) - np.clip(triangles.min(1), 0, size)
    return float((boxes + 1).prod(-1).sum())


def small_mask(frame: Frame) -> Bool[np.ndarray, "h w"]:
    """The frame's foreground at low resolution.

    Raises:
        InputError: the image or mask cannot be decoded.
    """
    _, mask = load_image(frame, (1.0, 1.0, 1.0))
    return np.array(Image.fromarray(mask).resize(small_size(frame.camera), Image.Resampling.BOX)) > 127


def outside_shares(
    capture: Capture, model: HeadModel, frames: Sequence[Frame], masks: Sequence[Bool[np.ndarray, "h w"]]
) -> Float[np.ndarray, "frames"]:
    """Share of each head outside of its mask, estimated from some of the vertices; faster than silhouettes."""
    subset = np.unique(head_faces(model))[::_VERTS_STRIDE]
    shares = []
    for frame, verts, mask in zip(frames, posed_verts(capture, model, frames), masks, strict=True):
        camera = frame.camera
        screen, nearness = project(verts[subset], camera.intrinsics, camera.T_world_camera)
        x, y = (screen * np.divide(mask.shape[::-1], (camera.width, camera.height))).T
        inside = (nearness > 0) & (x >= 0) & (x < mask.shape[1]) & (y >= 0) & (y < mask.shape[0])
        covered = mask[y[inside].astype(int), x[inside].astype(int)].sum()
        shares.append(1 - covered / len(subset))
    return np.array(shares)


def measure_overlap(head: Bool[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> Overlap:
    """Measure the overlap of a silhouette with a mask."""
    if not head.any():
        return Overlap(0.0, 1.0)
    both, either = head & mask, head | (mask & rows_to_chin(head))
    return Overlap(
        union=float(both.sum() / either.sum()),
        outside=float(1 - both.sum() / head.sum()),
        above=_leaving_above(head, mask),
        hair=_mask_above(head, mask),
        beside=_uncovered_beside(head, mask),
    )


def _leaving_above(head: Bool[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> float:
    if not mask.any():
        return 0.0
    rows = np.flatnonzero(head.any(1))
    upper = slice(0, rows[0] + max(1, len(rows) // 3))
    distance = np.asarray(distance_transform_edt(~mask))
    return float(distance[upper][head[upper]].max() / np.sqrt(head.sum()))


def _mask_above(head: Bool[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> float:
    over_head = np.flatnonzero((mask & head.any(0)).any(1))
    if len(over_head) == 0:
        return 0.0
    return float(max(0, np.flatnonzero(head.any(1))[0] - over_head[0]) / np.sqrt(head.sum()))


def _uncovered_beside(head: Bool[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> float:
    rows = np.flatnonzero(head.any(1))
    cheeks = rows[len(rows) // 2 : max(len(rows) // 2 + 1, int(0.7 * len(rows)))]
    width = mask[cheeks].sum()
    return float(max(0.0, 1 - head[cheeks].sum() / width)) if width else 0.0


def rows_to_chin(head: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Mask of the image rows down to a silhouette's lowest row."""
    rows = np.flatnonzero(head.any(1))
    return np.broadcast_to((np.arange(len(head)) <= (rows[-1] if len(rows) else -1))[:, None], head.shape)


def median_overlap(heads: Sequence[Bool[np.ndarray, "h w"]], masks: Sequence[Bool[np.ndarray, "h w"]]) -> Overlap:
    """The median overlap of silhouettes with their masks, value by value."""
    overlaps = [measure_overlap(head, mask) for head, mask in zip(heads, masks, strict=True)]
    return Overlap(*(float(np.median([getattr(o, f.name) for o in overlaps])) for f in fields(Overlap)))
