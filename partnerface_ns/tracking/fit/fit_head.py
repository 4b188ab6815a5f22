"""A head model reduced to the points that a fit needs.

The points are the landmarks, a sample of the outer surface that can lie on the outline, and the five joints. The joint
regressor only selects the joint rows, so `ShapedHead.pose` poses a thousand points instead of all vertices. The result
is exact up to the interpolation of skinning weights inside a triangle.

The identity has additional directions: smooth displacements of hair, neck and shoulders along the normal. They become
the capture's `static_offset`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.geometry.farthest_points import sample_farthest
from partnerface_ns.geometry.mesh_border import border_vertices
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.tracking.video.landmark_embedding import LandmarkEmbedding

_NUM_OUTLINE = 700
"""Number of surface points that can lie on the outline."""
_NUM_CONTROLS = 110
"""Number of displacements."""
_CONTROL_WIDTH = 0.03
"""Width of one displacement, metres."""
_FADE = 0.03
"""Distance from face and ears over which displacements fade in, metres."""
_CUT_MARGIN = 0.025
"""Vertices this close to the lower border of the shoulders are not used for the outline, metres."""


@dataclass(frozen=True)
class FitHead:
    """A head model reduced to landmarks, outline points and joints, in this order."""

    model: HeadModel
    landmark_model: HeadModel
    """The reduced model without outline points."""
    full: HeadModel
    num_identity: int
    """Number of identity directions of the full model; the directions after them displace the surface."""
    landmark_rows: Float[Tensor, "landmarks verts"]
    """Each landmark as a weighted sum of the full model's vertices."""
    outline_vertices: Int[Tensor, "outline"]
    """Vertices of the outline points in the full model."""
    outline_normals: Float[Tensor, "outline 3"]
    landmark_normals: Float[Tensor, "landmarks 3"]
    """Unit normals in the rest frame."""
    displacements: Float[Tensor, "verts 3 controls"]
    """Displacement directions on the full model's vertices; coefficients are metres."""

    def to(self, device: torch.device | str) -> FitHead:
        """Move everything that the fit computes with to a device; the full model stays."""
        return replace(
            self,
            model=self.model.to(device),
            landmark_model=self.landmark_model.to(device),
            outline_normals=self.outline_normals.to(device),
            landmark_normals=self.landmark_normals.to(device),
        )

    @property
    def num_landmarks(self) -> int:
        return self.landmark_normals.shape[0]

    @property
    def num_outline(self) -> int:
        return self.outline_normals.shape[0]

    def with_offsets(self, offsets: Float[Tensor, "verts 3 offsets"]) -> FitHead:
        """Append directions to the displacements."""
        displacements = torch.cat([self.displacements, offsets], -1)
        model, landmark_model = _reduced_models(self.full, displacements, self.landmark_rows, self.outline_vertices)
        return replace(self, displacements=displacements, model=model, landmark_model=landmark_model)

    def static_offset(self, coefficients: Float[Tensor, "identity"]) -> Float[Tensor, "verts 3"]:
        """Personal vertex offsets for the identity coefficients of a `Fit`, metres."""
        return self.displacements @ coefficients[self.num_identity :]


def reduce_head(model: HeadModel, embedding: LandmarkEmbedding) -> FitHead:
    """Reduce a head model to the points of the fit."""
    template, faces = model.template.numpy().astype(np.float64), model.faces.numpy()
    normals = vertex_normals(torch.from_numpy(template), torch.from_numpy(faces)).numpy()
    outer = _distance_weight(model, ("face", "eyeballs", "inside_mouth"))
    # Displacements along the normal would inflate the ears.
    controls = _displacements(model, normals, _distance_weight(model, ("face", "ears", "eyeballs", "inside_mouth")))
    # Only the outer surface appears in the outline, except where the bust is cut off.
    on_outline = np.flatnonzero((outer > 0.3) & (_distance_to_cut(template, faces) > _CUT_MARGIN))
    chosen = on_outline[_farthest_points(template[on_outline], _NUM_OUTLINE)]

    landmark_rows, outline_vertices = _landmark_rows(embedding, model), torch.from_numpy(chosen)
    landmark_normals = embedding.points(normals)
    landmark_normals /= np.linalg.norm(landmark_normals, axis=-1, keepdims=True)
    reduced, landmark_model = _reduced_models(model, controls, landmark_rows, outline_vertices)
    return FitHead(
        model=reduced,
        landmark_model=landmark_model,
        full=model,
        num_identity=model.num_identity,
        landmark_rows=landmark_rows,
        outline_vertices=outline_vertices,
        outline_normals=torch.from_numpy(normals[chosen]).float(),
        landmark_normals=torch.from_numpy(landmark_normals).float(),
        displacements=controls,
    )


def _reduced_models(
    model: HeadModel,
    displacements: Float[Tensor, "verts 3 controls"],
    landmark_rows: Float[Tensor, "landmarks verts"],
    outline_vertices: Int[Tensor, "outline"],
) -> tuple[HeadModel, HeadModel]:
    """`FitHead.model` and `FitHead.landmark_model`."""
    directions = torch.cat([model.identity_dirs, displacements], -1)
    outline = torch.nn.functional.one_hot(outline_vertices, model.num_verts).float()
    with_outline = torch.cat([landmark_rows, outline, model.joint_regressor])
    only_landmarks = torch.cat([landmark_rows, model.joint_regressor])
    return restrict_to_points(model, directions, with_outline), restrict_to_points(model, directions, only_landmarks)


def restrict_to_points(
    model: HeadModel, directions: Float[Tensor, "verts 3 directions"], rows: Float[Tensor, "points verts"]
) -> HeadModel:
    """Return a head model whose vertices are weighted sums of another model's vertices.

    Args:
        model: the full head model.
        directions: its identity directions, which may contain others.
        rows: weights of the sums; the last five rows are the joints.
    """

    def interpolate(values: Float[Tensor, "verts *channels"]) -> Float[Tensor, "points *channels"]:
        return torch.einsum("rv,v...->r...", rows, values)

    num, correctives, num_joints = len(rows), len(model.pose_dirs), model.joint_regressor.shape[0]
    pose_dirs = torch.einsum("rv,cvx->crx", rows, model.pose_dirs.reshape(correctives, -1, 3))
    weights = interpolate(model.skinning_weights)
    return HeadModel(
        name=model.name,
        template=interpolate(model.template),
        faces=torch.zeros(1, 3, dtype=torch.long),
        identity_dirs=interpolate(directions),
        expression_dirs=interpolate(model.expression_dirs),
        pose_dirs=pose_dirs.reshape(correctives, -1),
        joint_regressor=torch.eye(num_joints, num).roll(num - num_joints, 1),
        skinning_weights=weights / weights.sum(-1, keepdim=True),
        expression_names=model.expression_names,
        regions={},
    )


def _landmark_rows(embedding: LandmarkEmbedding, model: HeadModel) -> Float[Tensor, "landmarks verts"]:
    """Each landmark as a weighted sum of all vertices."""
    num = len(embedding.vertices)
    rows = np.zeros((num, model.num_verts), dtype=np.float32)
    np.add.at(rows, (np.arange(num)[:, None], embedding.vertices), embedding.weights)
    return torch.from_numpy(rows)


def _distance_weight(model: HeadModel, regions: tuple[str, ...]) -> Float[np.ndarray, "verts"]:
    """0 on some regions, rising to 1 at a distance from them."""
    from scipy.spatial import KDTree

    template = model.template.numpy()
    inside = np.max([model.regions[name].numpy() for name in regions], axis=0) > 0.5
    distance = KDTree(template[inside]).query(template)[0] if inside.any() else np.ones(len(template))
    return np.clip(distance / _FADE, 0, 1)


def _displacements(
    model: HeadModel, normals: Float[np.ndarray, "verts 3"], outer: Float[np.ndarray, "verts"]
) -> Float[Tensor, "verts 3 controls"]:
    """Gaussian displacements along the normal, around points that are evenly spread over the outer surface."""
    template = model.template.numpy().astype(np.float64)
    candidates = np.flatnonzero(outer > 0.3)
    centres = template[candidates[_farthest_points(template[candidates], _NUM_CONTROLS)]]
    distance = np.linalg.norm(template[:, None] - centres[None], axis=-1)
    weights = np.exp(-0.5 * (distance / _CONTROL_WIDTH) ** 2) * outer[:, None]
    return torch.from_numpy(weights[:, None, :] * normals[:, :, None]).float()


def _farthest_points(points: Float[np.ndarray, "points 3"], num: int) -> Int[np.ndarray, "num"]:
    """Indices of at most `num` points that are far from each other."""
    return sample_farthest(torch.from_numpy(points), min(num, len(points))).numpy()


def _distance_to_cut(
    template: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "verts"]:
    """Distance of each vertex from the lower open border of the surface, metres."""
    from scipy.spatial import KDTree

    border = border_vertices(faces)
    border = border[template[border, 1] < template[:, 1].min() + 0.35 * np.ptp(template[:, 1])]
    return KDTree(template[border]).query(template)[0] if len(border) else np.full(len(template), 1.0)


def cut_mask(model: HeadModel) -> Float[np.ndarray, "verts"]:
    """Return 1 for vertices near the border where the bust is cut off, else 0. They are not used for the outline."""
    return (_distance_to_cut(model.template.numpy(), model.faces.numpy()) <= _CUT_MARGIN).astype(np.float64)
