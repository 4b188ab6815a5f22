"""Boxes of mouth, eyes and head in the training images, from the tracked head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.capture.capture import Frame
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera, project_points
from partnerface_ns.rendering.metric_regions import above_neck

_NEAR = 0.01
"""Smallest distance in front of the camera at which a point is visible, metres."""


def region_boxes(
    head: ShapedHead, track: HeadState, frames: Sequence[Frame], margin: float = 0.2
) -> Float[np.ndarray, "images regions 4"]:
    """Boxes of mouth, eyes and head in each frame: left, top, right, bottom in pixels.

    Args:
        head: the person.
        track: head states, batch axes (timesteps,).
        frames: cameras and timesteps.
        margin: growth of a box, as a share of its width and height.

    Returns:
        Boxes of the vertices in front of the camera. They may reach beyond the image. A box without vertices is zero.

    Raises:
        InputError: a posed head has vertices that are not finite.
    """
    regions = head.model.regions
    eyes = torch.maximum(regions["eyeballs"], regions["eyelids"])
    picks = [torch.nonzero(mask > 0.5)[:, 0] for mask in (regions["lips"], eyes, above_neck(head.model))]
    boxes = np.empty((len(frames), len(picks), 4), np.float32)
    for start in range(0, len(frames), 64):
        part = frames[start : start + 64]
        verts = head.pose(track[torch.tensor([f.timestep for f in part])]).verts
        for i, frame in enumerate(part):
            if not bool(verts[i].isfinite().all()):
                name = frame.image_path or "capture"
                raise InputError(
                    name,
                    "the posed head is not finite",
                    key=f"timestep {frame.timestep}",
                    expected="finite head states",
                )
            for region, pick in enumerate(picks):
                boxes[start + i, region] = _box_around(verts[i, pick], frame.camera, margin)
    return boxes


def _box_around(points: Float[Tensor, "points 3"], camera: Camera, margin: float) -> Float[np.ndarray, "4"]:
    """Grown box of the world points in front of the camera; zeros if there are none."""
    T = torch.from_numpy(camera.T_world_camera).float()
    in_front = points[(points - T[:3, 3]) @ T[:3, 2] < -_NEAR]
    if len(in_front) == 0:
        return np.zeros(4, np.float32)
    pixels = project_points(in_front, camera.intrinsics, T)
    low, high = pixels.amin(0), pixels.amax(0)
    grow = (high - low) * margin / 2
    return torch.cat([low - grow, high + grow]).numpy()
