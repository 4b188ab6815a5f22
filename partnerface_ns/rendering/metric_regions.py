"""Regions of an image for which metrics are reported: head, mouth, eyes, outline and torso.

A region is a boolean image, and is empty where the frame does not show it.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.geometry.camera import Camera, project_points
from partnerface_ns.geometry.rasterizer import project, rasterize

HEAD_GROWTH = 0.05
"""Margin around the head's hull, as a share of its height."""
BOX_GROWTH = 0.2
"""Growth of the boxes of mouth and eyes, as a share of width and height."""
OUTLINE_SHARE = 0.02
"""Width of the outline on each side of the foreground's edge, as a share of the head's height."""
REGION_NAMES = ("head", "mouth", "eyes", "outline", "torso")


def metric_regions(
    verts: Float[Tensor, "verts 3"],
    model: HeadModel,
    camera: Camera,
    foreground: Bool[Tensor, "height width"],
) -> dict[str, Bool[Tensor, "height width"]]:
    """Pixels of each region of `REGION_NAMES` in an image.

    - head: the grown convex hull of the projected vertices above the neck
    - mouth, eyes: the grown box of the lips, and one for each eye
    - outline: the part of the head within 2% of its height of the foreground's edge, at least the pixels beside it
    - torso: pixels whose nearest visible surface point is on the torso

    All regions are empty if any vertex is behind the camera.

    Args:
        verts: posed vertices, world frame, metres.
        model: the head model of the vertices.
        camera: the image's camera.
        foreground: pixels that show the person.
    """
    verts = verts.detach().cpu()
    T = torch.from_numpy(camera.T_world_camera).to(verts.dtype)
    if bool((((verts - T[:3, 3]) @ T[:3, 2]) >= 0).any()):
        return {name: torch.zeros(camera.height, camera.width, dtype=torch.bool) for name in REGION_NAMES}
    points = project_points(verts, camera.intrinsics, T).double()
    eyes = torch.maximum(model.regions["eyeballs"], model.regions["eyelids"]).cpu() > 0.5
    left = model.template[:, 0].cpu() > 0
    head_points = points[above_neck(model)]
    head, height = _in_grown_hull(head_points, camera), float(np.ptp(head_points[:, 1].numpy()))
    return {
        "head": head,
        "mouth": _in_grown_box(points[model.regions["lips"].cpu() > 0.5], camera),
        "eyes": _in_grown_box(points[eyes & left], camera) | _in_grown_box(points[eyes & ~left], camera),
        "outline": head & _near_edge(foreground.cpu().numpy(), OUTLINE_SHARE * height),
        "torso": _nearest_to_torso(verts, model, camera),
    }


def above_neck(model: HeadModel) -> Bool[Tensor, "verts"]:
    """Vertices of the head that are no lower than the chin in the rest pose."""
    head, jaw = (model.regions[name].cpu() > 0.5 for name in ("head", "jaw"))
    height = model.template[:, 1].cpu()
    return head & (height >= height[jaw].min()) if jaw.any() else head


def _pixel_centers(camera: Camera) -> tuple[Float[Tensor, "width"], Float[Tensor, "height"]]:
    return torch.arange(camera.width).double() + 0.5, torch.arange(camera.height).double() + 0.5


def _in_grown_box(points: Float[Tensor, "points 2"], camera: Camera) -> Bool[Tensor, "height width"]:
    """Pixels in the box of points, grown by `BOX_GROWTH`."""
    if len(points) == 0:
        return torch.zeros(camera.height, camera.width, dtype=torch.bool)
    low, high = points.amin(0), points.amax(0)
    margin = (high - low) * BOX_GROWTH / 2
    low, high = low - margin, high + margin
    x, y = _pixel_centers(camera)
    return ((y >= low[1]) & (y <= high[1]))[:, None] & ((x >= low[0]) & (x <= high[0]))[None]


def _in_grown_hull(points: Float[Tensor, "points 2"], camera: Camera) -> Bool[Tensor, "height width"]:
    """Pixels in the convex hull of points, grown by `HEAD_GROWTH` of its height."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = ConvexHull(points.numpy())
    except (QhullError, ValueError):  # fewer than three points, or all on one line
        return torch.zeros(camera.height, camera.width, dtype=torch.bool)
    margin = HEAD_GROWTH * float(np.ptp(points[:, 1].numpy()))
    x, y = _pixel_centers(camera)
    inside = torch.ones(camera.height, camera.width, dtype=torch.bool)
    for normal_x, normal_y, offset in np.unique(hull.equations, axis=0).tolist():
        inside &= normal_y * y[:, None] + normal_x * x[None] + offset <= margin
    return inside


def _near_edge(inside: Bool[np.ndarray, "height width"], distance: float) -> Bool[Tensor, "height width"]:
    """Pixels within a distance in pixels, at least 0.5, of the border between inside and outside, if there is one."""
    from scipy.ndimage import distance_transform_edt

    if inside.all() or not inside.any():
        return torch.zeros(inside.shape, dtype=torch.bool)
    distances = [cast(np.ndarray, distance_transform_edt(side)) for side in (inside, ~inside)]
    # The border lies half a pixel before the centre of the nearest pixel of the other side.
    return torch.from_numpy(np.maximum(*distances) - 0.5 <= max(distance, 0.5))


def _nearest_to_torso(
    verts: Float[Tensor, "verts 3"], model: HeadModel, camera: Camera
) -> Bool[Tensor, "height width"]:
    """Pixels whose nearest visible surface point is on the torso. Pixels outside the mesh count by distance as well."""
    from scipy.ndimage import distance_transform_edt

    screen, nearness = project(verts.numpy(), camera.intrinsics, camera.T_world_camera)
    visible = rasterize(screen, nearness, model.faces.cpu().numpy(), camera.width, camera.height)
    if len(visible.samples) == 0:
        return torch.zeros(camera.height, camera.width, dtype=torch.bool)
    covered = np.zeros(camera.height * camera.width, dtype=bool)
    torso = np.zeros_like(covered)
    covered[visible.samples] = True
    torso[visible.samples] = (model.regions["torso"].cpu().numpy() > 0.5)[visible.corners].mean(-1) > 0.5
    shape = (camera.height, camera.width)
    nearest = distance_transform_edt(~covered.reshape(shape), return_distances=False, return_indices=True)
    rows, columns = cast(np.ndarray, nearest)
    return torch.from_numpy(torso.reshape(shape)[rows, columns])
