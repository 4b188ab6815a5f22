"""The preview film: the mesh over the video. The drawing also gives the outline of the mesh."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from partnerface_ns.geometry.camera import Camera
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.geometry.rasterizer import project, rasterize
from partnerface_ns.tracking.video.packages import require

_BLEND = 0.55
"""Opacity of the mesh."""
_MESH_COLOUR = np.array([0.55, 0.75, 1.0])


def draw_mesh(
    rgb: UInt8[np.ndarray, "rows columns 3"],
    verts: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
    camera: Camera,
    cut: Float[np.ndarray, "verts"],
) -> tuple[UInt8[np.ndarray, "rows columns 3"], Float[np.ndarray, "points 2"]]:
    """Draw the shaded mesh over an image; also returns the points (x, y) of its outline in pixels.

    Args:
        rgb: the image; its size is that of the camera.
        verts: vertices, world frame, metres.
        faces: triangles of the head model.
        camera: camera of the image.
        cut: 1 at vertices near the border where the mesh ends. The outline excludes them.
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


def _outline(
    covered: Bool[np.ndarray, "rows columns"], near_cut: Bool[np.ndarray, "rows columns"]
) -> Float[np.ndarray, "points 2"]:
    """Border points of the covered pixels, without holes and without the image's border."""
    from scipy.ndimage import binary_erosion, binary_fill_holes

    filled = np.asarray(binary_fill_holes(covered), dtype=bool)
    inner = np.asarray(binary_erosion(filled, border_value=1), dtype=bool)
    border = filled & ~inner & ~near_cut
    y, x = np.nonzero(border)
    return np.stack([x + 0.5, y + 0.5], -1)


def write_film(images: Iterable[UInt8[np.ndarray, "rows columns 3"]], path: Path, fps: float) -> None:
    """Write an mp4 file, which appears only when it is complete. Odd sides lose one pixel."""
    av = require("av")
    partial = path.with_name(f".{path.stem}.{os.getpid()}.mp4")
    try:
        with av.open(str(partial), "w") as container:
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
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
