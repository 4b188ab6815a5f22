"""The visible surface of an avatar as distances from the head model's mesh, along its normals.

The surface is where a ray from outside along the normal reaches a small optical depth. On the face the density must
continue to the skin without a gap, because glasses stand off. Hair and clothes may be hollow, because training never
sees their inside. Samples that are nearer to another part of the mesh, such as those of the neck at the chin, end the
search. A smooth function is fitted to these distances, with low confidence at the back.

Lips, lids, eyeballs and the inside of the mouth keep the mesh: they touch or slide, and the head model is exact there.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from partnerface_ns.driving.engine_head.neutral_field import NeutralField
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.geometry.smooth import fit_smooth
from partnerface_ns.rendering.volume import surface_heights

_DEPTH, _STEP = 0.006, 0.001
"""Depth below the skin at which density is followed inward, and the distance of samples, metres."""
_REACH_FACE, _REACH_EARS, _REACH_THROAT, _REACH_HAIR, _REACH_TORSO = 0.008, 0.006, 0.004, 0.07, 0.03
"""Largest distance of the surface from the skin, metres. Glasses that stand off are not a part of it."""
_THIN = 25.0
"""Density in 1/m below which a sample counts as empty."""
_NEAR_OTHER = 0.6
"""A sample is near another part of the mesh if its distance to the mesh is less than this share of its height."""
_CLOSE = 0.004
"""Height in metres up to which every sample belongs to its vertex: distances between vertices are rough."""
_POINTS_AT_ONCE = 1 << 16
_UNSEEN = 0.02
"""Confidence where training hardly saw the surface, so that it follows its neighbours."""
_TURNED_AWAY = 0.5
"""Cosine of the angle beyond perpendicular at which the surface counts as not seen at all."""
_OPTICAL_DEPTH = 0.1
"""Optical depth at the surface. It is small, because rays along the outline pass through more of the same hair."""
_STIFFNESS_HAIR, _STIFFNESS_FACE, _FIXED = 0.05, 0.3, 1e4
"""Stiffness of the fitted function, and weight of the kept mesh, against 1 for a measured distance."""


def measure_distances(
    field: NeutralField, verts: Float[Tensor, "verts 3"], normals: Float[Tensor, "verts 3"], model: HeadModel
) -> Float[np.ndarray, "verts"]:
    """Distance of the visible surface from each vertex along its normal, metres.

    Args:
        field: the avatar's field.
        verts: the canonical mesh, metres.
        normals: its unit normals.
        model: the head model, whose regions say where hair and clothes may be.
    """
    kept, reach = kept_vertices(model), _reach(model, verts, normals)
    heights = torch.arange(-_DEPTH, _REACH_HAIR, _STEP, device=verts.device)
    located = field.locate(verts)
    own = verts[:, None] + heights[:, None] * normals[:, None]
    read = own + (located.points - verts)[:, None]
    density = torch.cat([field.density(chunk) for chunk in read.flatten(0, 1).split(_POINTS_AT_ONCE)])
    density = density.view(len(verts), -1)
    distance = field.distance_to_mesh(own.flatten(0, 1)).view(len(verts), -1)
    beyond = (heights > reach[:, None]) | ((distance < _NEAR_OTHER * heights) & (heights > _CLOSE))
    gap = (density < _THIN) & (heights > 0) & (model.regions["face"] > 0.5)[:, None]
    height, is_known = surface_heights(density, heights, beyond | gap, _OPTICAL_DEPTH)
    confidence = is_known * seen_share(field, verts, normals).clamp(min=_UNSEEN)
    weights = torch.where(kept, _FIXED, confidence)
    target = torch.where(kept, 0.0, height)[:, None]
    stiffness = _STIFFNESS_HAIR + (_STIFFNESS_FACE - _STIFFNESS_HAIR) * model.regions["face"]
    arrays = (values.cpu().numpy() for values in (target, weights, stiffness, model.faces))
    return fit_smooth(*arrays)[:, 0]


def seen_share(
    field: NeutralField, verts: Float[Tensor, "verts 3"], normals: Float[Tensor, "verts 3"]
) -> Float[Tensor, "verts"]:
    """Share in [0, 1] to which the camera saw the surface: 1 where it faces the camera, 0 at the back of the head."""
    facing = (F.normalize(field.camera - verts, dim=1) * normals).sum(1)
    return (facing / _TURNED_AWAY + 1).clamp(0, 1)


def kept_vertices(model: HeadModel) -> Bool[Tensor, "verts"]:
    """Vertices at which the head model's mesh is kept."""
    names = ("lips", "eyelids", "eyeballs", "inside_mouth")
    return torch.stack([model.regions[name] for name in names]).amax(0) > 0.3


def _reach(
    model: HeadModel, verts: Float[Tensor, "verts 3"], normals: Float[Tensor, "verts 3"]
) -> Float[Tensor, "verts"]:
    """Largest distance of the surface from each vertex, metres."""
    regions = model.regions
    reach = _REACH_HAIR + (_REACH_FACE - _REACH_HAIR) * regions["face"]
    reach = reach + (_REACH_EARS - reach) * regions["ears"]
    reach = reach + (_REACH_TORSO - reach) * regions["torso"]
    # Below the mouth at the front, density is a shadow or an unseen place under the chin.
    below = verts[:, 1] < verts[regions["lips"] > 0.5, 1].amin()
    throat = below & (normals[:, 2] > 0) & (regions["torso"] < 0.5)
    return torch.where(throat, reach.clamp(max=_REACH_THROAT), reach)
