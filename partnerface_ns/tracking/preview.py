"""What the track looks like: the mesh drawn over the video, beside the matted image, as a small film.

The same drawing gives the mesh's outline, whose distance from the matte's is the silhouette error.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from partnerface_ns.common.atomic import atomic_write
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.geometry.rasterizer import project, rasterize
from partnerface_ns.tracking.video import require

_BLEND = 0.55
_MESH_COLOUR = np.array([0.55, 0.75, 1.0])


def draw_mesh(
    rgb: UInt8[np.ndarray, "rows columns 3"],
    verts: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
    camera: Camera,
    cut: Float[np.ndarray, "verts"],
) -> tuple[UInt8[np.ndarray, "rows columns 3"], Float[np.ndarray, "points 2"]]:
    """The shaded mesh over an image, and the points (x, y) of its outline in pixels.

    Args:
        rgb: the image, of the camera's size.
        verts: world frame.
        faces: of the head model.
        camera: that took the image.
        cut: 1 for vertices near the border where the mesh ends; the outline there is left out.
    """
    screen, nearness = project(verts, camera.intrinsics, camera.T_world_camera)
    visible = rasterize(screen, nearness, faces, camera.width, camera.height)
    normals = vertex_normals(torch.from_numpy(verts), torch.from_numpy(faces)).numpy()
    sight = -verts / np.linalg.norm(verts, axis=-1, keepdims=True)
    shade = np.clip((normals * sight).sum(-1), 0, 1)
    values = visible.interpolate(np.stack([shade, cut], -1))
    image = rgb.reshape(-1, 3).astype(np.float32)
    drawn = (30 + 225 * values[:, :1]) * _MESH_COLOUR
    image[visible.samples] = _BLEND * drawn + (1 - _BLEND) * image[visible.samples]
    near_cut = np.zeros(len(image), dtype=bool)
    near_cut[visible.samples] = values[:, 1] > 0.5
    covered = np.zeros(len(image), dtype=bool)
    covered[visible.samples] = True
    shape = rgb.shape[:2]
    return image.reshape(rgb.shape).astype(np.uint8), _outline(covered.reshape(shape), near_cut.reshape(shape))


def _outline(covered: np.ndarray, near_cut: np.ndarray) -> np.ndarray:
    """Border points of the covered pixels against the rest; holes inside and the image's border do not count."""
    from scipy.ndimage import binary_erosion, binary_fill_holes

    whole = binary_fill_holes(covered)
    border = whole & ~binary_erosion(whole, border_value=1) & ~near_cut
    y, x = np.nonzero(border)
    return np.stack([x + 0.5, y + 0.5], -1)


def write_film(images: Iterable[UInt8[np.ndarray, "rows columns 3"]], path: Path, fps: float) -> None:
    """Write an mp4; the file appears only when it is whole. Sides are cut to even numbers."""
    av = require("av")
    with atomic_write(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = None
        for rgb in images:
            rows, columns = rgb.shape[0] // 2 * 2, rgb.shape[1] // 2 * 2
            if stream is None:
                stream = container.add_stream("libx264", rate=max(1, round(fps)), options={"crf": "23"})
                stream.width, stream.height, stream.pix_fmt = columns, rows, "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[:rows, :columns]), format="rgb24")
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())
