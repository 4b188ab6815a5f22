"""Overlay of the tracked mesh on an image, to check a capture by eye."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from scipy.ndimage import binary_erosion

from partnerface_ns.geometry.camera import Camera
from partnerface_ns.geometry.rasterizer import project, rasterize

OPACITY = 0.6
"""Opacity of the mesh by default."""
_MESH, _OUTLINE = np.array([0.45, 0.85, 0.55]), (230, 40, 40)
_WIRE_SIDE = 1024
"""Edges of the wireframe are one pixel wide in an image with this longer side, pixels."""
_NEAREST = 0.02
"""Smallest distance in front of the camera at which the head is drawn, metres."""


def draw_mesh_overlay(
    rgb: UInt8[np.ndarray, "height width 3"],
    mask: UInt8[np.ndarray, "height width"],
    verts: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
    camera: Camera,
    side: int = 384,
    opacity: float = OPACITY,
    wireframe: bool = False,
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Draw the shaded mesh and the mask's border, in red, over an image.

    The mesh is left out if any of it is behind the camera.

    Args:
        rgb: the image.
        mask: foreground, 0 to 255.
        verts: posed vertices, world frame, metres.
        faces: triangles to draw, as vertex indices.
        camera: the image's camera.
        side: longer side of the result, pixels.
        opacity: of the mesh, 0 to 1.
        wireframe: whether only the edges of visible triangles are drawn.
    """
    scale = side / max(camera.width, camera.height)
    width, height = round(camera.width * scale), round(camera.height * scale)
    resize = lambda image, how: np.array(Image.fromarray(image).resize((width, height), how))  # noqa: E731
    image = resize(rgb, Image.Resampling.BILINEAR).reshape(-1, 3).astype(np.float32)
    inside = resize(mask, Image.Resampling.BILINEAR) > 127
    depth = (camera.T_world_camera[:3, 3] - verts) @ camera.T_world_camera[:3, 2]
    if depth[faces].min() > _NEAREST:
        draw = _draw_edges if wireframe else _draw_surface
        draw(image, verts, faces, camera.resize(width, height), opacity)
    image = image.reshape(height, width, 3).astype(np.uint8)
    image[inside & ~binary_erosion(inside, border_value=1)] = _OUTLINE
    return image


def _draw_surface(
    image: Float[np.ndarray, "pixels 3"], verts: np.ndarray, faces: np.ndarray, camera: Camera, opacity: float
) -> None:
    """Draw the shaded surface into an image of the camera's size."""
    screen = project(verts, camera.intrinsics, camera.T_world_camera)
    visible = rasterize(*screen, faces, camera.width, camera.height)
    drawn = (40 + 215 * _facing(verts[visible.corners], camera)[:, None]) * _MESH
    image[visible.samples] = opacity * drawn + (1 - opacity) * image[visible.samples]


def _draw_edges(
    image: Float[np.ndarray, "pixels 3"], verts: np.ndarray, faces: np.ndarray, camera: Camera, opacity: float
) -> None:
    """Draw the edges of visible triangles, thinner than a pixel of a small image."""
    factor = max(1, round(_WIRE_SIDE / max(camera.width, camera.height)))
    fine = camera.resize(camera.width * factor, camera.height * factor)
    visible = rasterize(*project(verts, fine.intrinsics, fine.T_world_camera), faces, fine.width, fine.height)
    triangles = np.full((fine.height + 1, fine.width + 1), -1)
    triangles[:-1, :-1].flat[visible.samples] = visible.triangles
    here = triangles[:-1, :-1]
    edges = (here >= 0) & ((here != triangles[:-1, 1:]) | (here != triangles[1:, :-1]))
    share = edges.reshape(camera.height, factor, camera.width, factor).mean((1, 3)).reshape(-1, 1)
    image[:] = opacity * share * 255 * _MESH + (1 - opacity * share) * image


def _facing(corners: Float[np.ndarray, "samples 3 3"], camera: Camera) -> Float[np.ndarray, "samples"]:
    """Cosine between each triangle's normal and the direction to the camera, clamped to [0, 1]."""
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sight = camera.T_world_camera[:3, 3] - corners.mean(1)
    lengths = np.linalg.norm(normals, axis=-1) * np.linalg.norm(sight, axis=-1)
    return ((normals * sight).sum(-1) / (lengths + 1e-12)).clip(0, 1)
