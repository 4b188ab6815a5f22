"""Cameras around a head: front, both sides, above and behind. Most of these views are never seen in training."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from partnerface_ns.geometry.camera import Camera

ORBIT: dict[str, tuple[float, float]] = {
    "90 left": (90, 0),
    "60 left": (60, 0),
    "30 left": (30, 0),
    "front": (0, 0),
    "30 right": (-30, 0),
    "60 right": (-60, 0),
    "90 right": (-90, 0),
    "above": (0, 70),
    "behind": (180, 0),
}
"""Azimuth towards the person's left and elevation of each view, degrees."""
_FILL = 0.55
"""Height of the head as a share of the image's shorter side."""


def orbit_cameras(
    camera: Camera, head: Float[np.ndarray, "verts 3"], R_world_head: Float[np.ndarray, "3 3"], longer_side: int
) -> dict[str, Camera]:
    """A camera for each view of `ORBIT`, all with the head in the middle of the image.

    Args:
        camera: gives distance and aspect ratio.
        head: vertices of the head, world frame, metres.
        R_world_head: the head's rotation; its columns point to the person's left, upwards and out of the face.
        longer_side: of the images, pixels.
    """
    center = (head.min(0) + head.max(0)) / 2
    distance = float(np.linalg.norm(camera.T_world_camera[:3, 3] - center))
    scale = longer_side / max(camera.width, camera.height)
    width, height = (max(1, round(side * scale)) for side in (camera.width, camera.height))
    along_up = (head - center) @ R_world_head[:, 1]
    focal = _FILL * min(width, height) * distance / float(np.ptp(along_up))
    cameras = {}
    for name, (azimuth, elevation) in ORBIT.items():
        T_world_camera = np.eye(4)
        T_world_camera[:3, :3] = R_world_head @ _rotation(math.radians(azimuth), math.radians(elevation))
        T_world_camera[:3, 3] = center + distance * T_world_camera[:3, 2]
        cameras[name] = replace(
            camera,
            T_world_camera=T_world_camera,
            fl_x=focal,
            fl_y=focal,
            cx=width / 2,
            cy=height / 2,
            width=width,
            height=height,
        )
    return cameras


def _rotation(azimuth: float, elevation: float) -> Float[np.ndarray, "3 3"]:
    """Rotation of a camera that looks along -z at the origin, first up by the elevation, then around y."""
    sin, cos = math.sin(azimuth), math.cos(azimuth)
    around = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    sin, cos = math.sin(elevation), math.cos(elevation)
    return around @ np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
