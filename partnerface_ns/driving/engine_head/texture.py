"""Texture of a mesh: texture coordinates by xatlas, and colours of the canonical field at the surface.

The field has no meaningful colours where training saw nothing: its planes repeat the face at the back of the head.
There the texture continues the colours of the surroundings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from partnerface_ns.common.progress import progress
from partnerface_ns.driving.engine_head.neutral_field import FieldPoints, NeutralField
from partnerface_ns.geometry.rasterizer import rasterize
from partnerface_ns.geometry.smooth import fit_smooth
from partnerface_ns.rendering.volume import weights_from_density

_ABOVE, _BELOW, _NUM_SAMPLES = 0.003, 0.005, 8
"""Metres above and below the surface between which colour is collected, and the number of samples."""
_TEXELS_AT_ONCE = 1 << 15
_COLOR_STIFFNESS = 0.01
"""Stiffness of the continued colours, against 1 for a colour that training saw."""


class Atlas(NamedTuple):
    """Texture coordinates of a mesh. A vertex at a seam occurs once for each chart."""

    source: Int[np.ndarray, "uv_verts"]
    """Vertex of the mesh that each vertex of the atlas stands for."""
    faces: Int[np.ndarray, "faces 3"]
    """Triangles of the mesh in the same order, as indices of the atlas's vertices."""
    uv: Float[np.ndarray, "uv_verts 2"]
    """Texture coordinates in [0, 1]; v points down."""


class Surface(NamedTuple):
    """A surface in the canonical frame."""

    verts: Float[Tensor, "verts 3"]
    """Metres."""
    normals: Float[Tensor, "verts 3"]
    """Unit length."""
    seen: Float[Tensor, "verts"]
    """Share in [0, 1] to which training saw the surface."""
    faces: Int[Tensor, "faces 3"]


def unwrap(verts: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"], size: int) -> Atlas:
    """Unwrap a mesh into charts without overlap.

    Args:
        verts: metres.
        faces: vertex indices.
        size: side of the texture, texels.
    """
    import xatlas

    atlas = xatlas.Atlas()
    atlas.add_mesh(verts.astype(np.float32), faces.astype(np.uint32))
    packing = xatlas.PackOptions()
    packing.resolution, packing.padding = size, max(1, size // 512)
    atlas.generate(pack_options=packing)
    source, atlas_faces, uv = atlas[0]
    return Atlas(source.astype(np.int64), atlas_faces.astype(np.int64), uv.astype(np.float32).clip(0, 1))


def bake(field: NeutralField, atlas: Atlas, surface: Surface, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The texture of a surface. Texels outside of all charts take the colour of the nearest chart.

    Args:
        field: the avatar's field.
        atlas: from `unwrap`.
        surface: the surface.
        size: side of the texture, texels.
    """
    screen = atlas.uv * size
    faces = _front_facing(screen, atlas.faces)
    texels = rasterize(screen, np.ones(len(screen), np.float32), faces, size, size, perspective=False)
    at_verts = torch.cat([surface.verts, surface.normals, continue_colors(field, surface), surface.seen[:, None]], 1)
    values = torch.from_numpy(texels.interpolate(at_verts.cpu().numpy()[atlas.source]).astype(np.float32))
    colors, chunks = [], values.split(_TEXELS_AT_ONCE)
    for chunk in progress(chunks, "Baking the texture", len(chunks)):
        points, normals, continued, seen = chunk.to(field.device).split([3, 3, 3, 1], 1)
        colors.append(torch.lerp(continued, _colors(field, points, normals), seen).cpu())
    image = np.zeros((size * size, 3), np.uint8)
    image[texels.samples] = (torch.cat(colors).clamp(0, 1) * 255).round().byte().numpy()
    return _fill(image.reshape(size, size, 3), texels.samples)


def continue_colors(field: NeutralField, surface: Surface) -> Float[Tensor, "verts 3"]:
    """Colours of vertices, of which those that training did not see continue the others."""
    colors = _colors(field, surface.verts, surface.normals)
    stiffness = torch.full_like(surface.seen, _COLOR_STIFFNESS)
    arrays = (values.cpu().numpy() for values in (colors, surface.seen, stiffness, surface.faces))
    return torch.from_numpy(fit_smooth(*arrays)).to(colors.device)


def _colors(
    field: NeutralField, points: Float[Tensor, "texels 3"], normals: Float[Tensor, "texels 3"]
) -> Float[Tensor, "texels 3"]:
    """Colour where a short ray into the surface is absorbed."""
    normals = torch.nn.functional.normalize(normals, dim=1)
    located = field.locate(points)
    heights = torch.linspace(_ABOVE, -_BELOW, _NUM_SAMPLES, device=points.device)
    samples = located.points[:, None] + heights[:, None] * normals[:, None]
    density = field.density(samples.flatten(0, 1)).view(len(points), -1)
    weights = weights_from_density(density, torch.full_like(density, (_ABOVE + _BELOW) / (_NUM_SAMPLES - 1)))
    share = weights.sum(1).clamp(max=1)
    # Where little is absorbed, the colour at the surface itself is taken.
    height = (weights * heights).sum(1) / weights.sum(1).clamp(min=1e-4) * share
    shift = height[:, None] * normals
    return field.color(FieldPoints(located.points + shift, located.ambient), points + shift)


def _front_facing(screen: np.ndarray, faces: np.ndarray) -> Int[np.ndarray, "faces 3"]:
    """The triangles with corners in the order that the rasteriser draws; mirrored charts are turned."""
    a, b, c = (screen[faces[:, i]] for i in range(3))
    e1, e2 = b - a, c - a
    turned = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0] > 0
    return np.where(turned[:, None], faces[:, ::-1], faces)


def _fill(image: UInt8[np.ndarray, "size size 3"], samples: Int[np.ndarray, "samples"]) -> np.ndarray:
    """Give all other texels the colour of the nearest covered one, so that no seam shows."""
    empty = np.ones(image.shape[:2], bool)
    empty.ravel()[samples] = False
    rows, columns = np.asarray(distance_transform_edt(empty, return_distances=False, return_indices=True))
    return image[rows, columns]
