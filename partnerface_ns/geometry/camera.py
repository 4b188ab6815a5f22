"""Pinhole cameras: pixels to rays and points to pixels.

Cameras are camera-to-world in OpenGL axes (x right, y up, looking down -z). Pixel coordinates have their origin at
the image's top left corner, x right and y down; the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class Intrinsics(NamedTuple):
    """Focal lengths and principal point in pixels."""

    fl_x: float
    fl_y: float
    cx: float
    cy: float

    def scale(self, x: float, y: float) -> Intrinsics:
        """Intrinsics of the same view in an image `x` times as wide and `y` times as high."""
        return Intrinsics(self.fl_x * x, self.fl_y * y, self.cx * x, self.cy * y)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera."""

    T_world_camera: Float[np.ndarray, "4 4"]
    """Camera-to-world, OpenGL axes, metres, float64."""
    fl_x: float
    fl_y: float
    cx: float
    cy: float
    width: int
    height: int

    @property
    def intrinsics(self) -> Intrinsics:
        return Intrinsics(self.fl_x, self.fl_y, self.cx, self.cy)

    def resize(self, width: int, height: int) -> Camera:
        """The camera of the same view in an image of another size, in pixels."""
        intrinsics = self.intrinsics.scale(width / self.width, height / self.height)
        return Camera(self.T_world_camera, *intrinsics, width, height)


def rays_through_pixels(
    pixels: Float[Tensor, "rays 2"], intrinsics: Intrinsics, T_world_camera: Float[Tensor, "4 4"]
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]]:
    """Origins and unit directions of the rays through pixels, world frame.

    Args:
        pixels: (x, y) in pixels.
        intrinsics: the camera's intrinsics.
        T_world_camera: camera-to-world.
    """
    x = (pixels[:, 0] - intrinsics.cx) / intrinsics.fl_x
    y = -(pixels[:, 1] - intrinsics.cy) / intrinsics.fl_y
    in_camera = torch.stack([x, y, -torch.ones_like(x)], -1)
    directions = torch.nn.functional.normalize(in_camera @ T_world_camera[:3, :3].T, dim=-1)
    return T_world_camera[:3, 3].expand_as(directions), directions


def project_points(
    points: Float[Tensor, "*batch 3"], intrinsics: Intrinsics, T_world_camera: Float[Tensor, "4 4"]
) -> Float[Tensor, "*batch 2"]:
    """Pixel coordinates (x, y) of world points; points must lie in front of the camera."""
    in_camera = (points - T_world_camera[:3, 3]) @ T_world_camera[:3, :3]
    depth = -in_camera[..., 2]
    x = intrinsics.cx + intrinsics.fl_x * in_camera[..., 0] / depth
    y = intrinsics.cy - intrinsics.fl_y * in_camera[..., 1] / depth
    return torch.stack([x, y], -1)
