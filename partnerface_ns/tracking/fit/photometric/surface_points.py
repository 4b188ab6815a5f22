"""The points of the photometric fit: landmarks, outline points, texture points and joints of a head model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.joints import Joint
from partnerface_ns.geometry.farthest_points import sample_farthest
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.tracking.fit.fit_head import FitHead, cut_mask, restrict_to_points

_NUM_TEXTURE = 3000
"""Number of texture points."""
_NUM_TORSO = 1500
"""Number of points on the torso."""
_MIN_ROOT_WEIGHT = 0.9
"""Skinning weight of the root joint above which a vertex moves with it alone."""
_DENSITY = (("face", 3.0), ("ears", 2.0))
"""Regions with more texture points for each area than elsewhere."""
_NUM_CONTROLS = 160
"""Number of offsets of face and ears."""
_CONTROL_WIDTH = 0.014
"""Width of one offset, metres."""
_FACE_MARGIN = 0.03
"""Offsets of the face end at this distance from it, metres. Displacements of the hair begin there."""
_SEED = 0


@dataclass(frozen=True)
class SurfacePoints:
    """A head model reduced to landmarks, outline points, texture points and joints, in this order."""

    model: HeadModel
    """Its identity directions are those of the `FitHead`."""
    normals: Float[Tensor, "points 3"]
    """Unit normals in the rest frame; zero for joints."""
    is_face: Float[Tensor, "texture"]
    """1 for texture points of the face, else 0."""
    num_landmarks: int
    num_outline: int

    @property
    def outline(self) -> slice:
        return slice(self.num_landmarks, self.num_landmarks + self.num_outline)

    @property
    def texture(self) -> slice:
        return slice(self.num_landmarks + self.num_outline, self.model.num_verts - 5)


def choose_points(head: FitHead) -> SurfacePoints:
    """Choose random texture points, and join them with the points of a reduced head."""
    full = head.full
    normals = vertex_normals(full.template, full.faces)
    texture = texture_rows(full)
    directions = torch.cat([full.identity_dirs, head.displacements], -1)
    outline = torch.nn.functional.one_hot(head.outline_vertices, full.num_verts).float()
    rows = torch.cat([head.landmark_rows, outline, texture, full.joint_regressor])
    turned = torch.nn.functional.normalize(rows[:-5] @ normals, dim=-1)
    return SurfacePoints(
        model=restrict_to_points(full, directions, rows),
        normals=torch.cat([turned, torch.zeros(5, 3)]),
        is_face=(texture @ full.regions["face"] > 0.5).float(),
        num_landmarks=head.num_landmarks,
        num_outline=head.num_outline,
    )


def texture_rows(model: HeadModel, num: int = _NUM_TEXTURE) -> Float[Tensor, "texture verts"]:
    """Random points on face, head, ears and neck, as weighted sums of the vertices of their triangles.

    Eyeballs, the inside of the mouth, the torso and the border of the bust have none.
    """
    density = np.ones(model.num_verts)
    for region, value in _DENSITY:
        density = np.maximum(density, value * model.regions[region].numpy())
    for region in ("eyeballs", "inside_mouth", "torso"):
        density[model.regions[region].numpy() > 0.5] = 0
    return _random_points(model, density, num)


def torso_rows(model: HeadModel) -> Float[Tensor, "points verts"]:
    """Random points of the torso, as weighted sums of the vertices of their triangles; none without a torso."""
    return _random_points(model, on_torso(model).double().numpy(), _NUM_TORSO)


def on_torso(model: HeadModel) -> Bool[Tensor, "verts"]:
    """Vertices that move with the root joint alone."""
    return model.skinning_weights[:, Joint.ROOT] > _MIN_ROOT_WEIGHT


def _random_points(model: HeadModel, density: Float[np.ndarray, "verts"], num: int) -> Float[Tensor, "points verts"]:
    """Random points of the surface except the border of the bust; `density` is relative to the area."""
    generator = np.random.default_rng(_SEED)
    verts, faces = model.template.numpy(), model.faces.numpy()
    density = np.where(cut_mask(model) > 0, 0, density)
    a, b, c = verts[faces].transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=-1)
    probability = area * density[faces].min(-1)
    if not probability.any():
        return torch.zeros(0, model.num_verts)
    chosen = faces[generator.choice(len(faces), num, p=probability / probability.sum())]
    weights = generator.dirichlet((1.0, 1.0, 1.0), num)
    rows = np.zeros((num, model.num_verts), dtype=np.float32)
    np.add.at(rows, (np.arange(num)[:, None], chosen), weights)
    return torch.from_numpy(rows)


def face_offsets(model: HeadModel) -> Float[Tensor, "verts 3 offsets"]:
    """Gaussian offsets along the normal of face and ears; coefficients are metres.

    The centres are evenly spread. They end at the eyeballs and inside the mouth, which keep their shape.
    """
    from scipy.spatial import KDTree

    template = model.template.double().numpy()
    inside = np.maximum(model.regions["face"].numpy(), model.regions["ears"].numpy()) > 0.5
    still = np.maximum(model.regions["eyeballs"].numpy(), model.regions["inside_mouth"].numpy()) > 0.5
    fade = np.clip(1 - KDTree(template[inside]).query(template)[0] / _FACE_MARGIN, 0, 1)
    fade[still] = 0
    candidates = np.flatnonzero(inside & ~still)
    points = torch.from_numpy(template[candidates])
    centres = template[candidates[sample_farthest(points, min(_NUM_CONTROLS, len(points))).numpy()]]
    distance = np.linalg.norm(template[:, None] - centres[None], axis=-1)
    weights = np.exp(-0.5 * (distance / _CONTROL_WIDTH) ** 2) * fade[:, None]
    normals = vertex_normals(model.template, model.faces)
    return torch.from_numpy(weights[:, None, :]).float() * normals[:, :, None]
