"""The few points of a head model that a fit looks at, as a small head model of their own.

The points are the landmarks, a sample of the outer surface that can lie on the outline, and the five joints, whose
regression becomes the choice of a row: so `ShapedHead.pose` poses a thousand points in place of all vertices, exactly
up to the blending of weights inside a triangle. Identity gets further directions: smooth displacements of hair, neck
and shoulders along the normal, which end up in the subject's `static_offset`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.geometry.farthest_points import sample_farthest
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.tracking.embedding import LandmarkEmbedding

_NUM_OUTLINE = 700
"""Points of the surface that may lie on the outline."""
_NUM_CONTROLS = 110
_CONTROL_WIDTH = 0.03
"""Metres: reach of one displacement."""
_FADE = 0.03
"""Metres around face and ears over which displacements fade in."""
_CUT_MARGIN = 0.025
"""Metres from the border where the shoulders end, inside of which a vertex says nothing about the outline."""


@dataclass(frozen=True)
class FitHead:
    """A head model reduced to landmarks, outline points and joints, in this order."""

    model: HeadModel
    landmark_model: HeadModel
    """Landmarks and joints only."""
    full: HeadModel
    num_identity: int
    """Identity directions of the full model; those behind them displace the surface."""
    outline_vertices: Int[Tensor, "outline"]
    """Vertices of the full model."""
    outline_normals: Float[Tensor, "outline 3"]
    landmark_normals: Float[Tensor, "landmarks 3"]
    """Unit normals in the rest frame."""
    displacements: Float[Tensor, "verts 3 controls"]
    """Directions of the displacements over the full model's vertices, metres."""

    def to(self, device: torch.device | str) -> FitHead:
        """The same with what the fit computes with on another device; the full model stays."""
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

    def static_offset(self, coefficients: Float[Tensor, "identity"]) -> Float[Tensor, "verts 3"]:
        """The subject's own surface offsets for fitted identity coefficients (those of the full model first)."""
        return self.displacements @ coefficients[self.num_identity :]


def reduce_head(model: HeadModel, embedding: LandmarkEmbedding) -> FitHead:
    """The fit's points of a head model."""
    template, faces = model.template.numpy().astype(np.float64), model.faces.numpy()
    normals = vertex_normals(torch.from_numpy(template), model.faces).numpy()
    outer = _away_from(model, ("face", "eyeballs", "inside_mouth"))
    # Ears have a shape of their own, which a displacement along the normal would only blow up.
    controls = _displacements(model, normals, _away_from(model, ("face", "ears", "eyeballs", "inside_mouth")))
    # Only the outermost layer shows itself in the outline, and not where the bust is cut off.
    on_outline = np.flatnonzero((outer > 0.3) & (_distance_to_cut(template, faces) > _CUT_MARGIN))
    chosen = on_outline[_sample_evenly(template[on_outline], _NUM_OUTLINE)]

    directions = torch.cat([model.identity_dirs, controls], -1)
    points, joints = _rows_of(embedding, model), model.joint_regressor
    outline = torch.nn.functional.one_hot(torch.from_numpy(chosen), model.num_verts).float()
    landmark_normals = embedding.points(normals)
    landmark_normals /= np.linalg.norm(landmark_normals, axis=-1, keepdims=True)
    return FitHead(
        model=_of_points(model, directions, torch.cat([points, outline, joints])),
        landmark_model=_of_points(model, directions, torch.cat([points, joints])),
        full=model,
        num_identity=model.num_identity,
        outline_vertices=torch.from_numpy(chosen),
        outline_normals=torch.from_numpy(normals[chosen]).float(),
        landmark_normals=torch.from_numpy(landmark_normals).float(),
        displacements=controls,
    )


def _of_points(model: HeadModel, directions: Tensor, rows: Tensor) -> HeadModel:
    """A head model whose vertices are weighted sums of the model's; the last five are its joints."""
    pick = lambda values: torch.einsum("rv,v...->r...", rows, values)  # noqa: E731
    num, correctives, num_joints = len(rows), len(model.pose_dirs), model.joint_regressor.shape[0]
    pose_dirs = torch.einsum("rv,cvx->crx", rows, model.pose_dirs.reshape(correctives, -1, 3))
    weights = pick(model.skinning_weights)
    return HeadModel(
        name=model.name,
        template=pick(model.template),
        faces=torch.zeros(1, 3, dtype=torch.long),
        identity_dirs=pick(directions),
        expression_dirs=pick(model.expression_dirs),
        pose_dirs=pose_dirs.reshape(correctives, -1),
        joint_regressor=torch.eye(num_joints, num).roll(num - num_joints, 1),
        skinning_weights=weights / weights.sum(-1, keepdim=True),
        expression_names=model.expression_names,
        regions={},
    )


def _rows_of(embedding: LandmarkEmbedding, model: HeadModel) -> Tensor:
    """Each landmark as a weighted sum of vertices."""
    num = len(embedding.vertices)
    rows = np.zeros((num, model.num_verts), dtype=np.float32)
    np.add.at(rows, (np.arange(num)[:, None], embedding.vertices), embedding.weights)
    return torch.from_numpy(rows)


def _away_from(model: HeadModel, regions: tuple[str, ...]) -> np.ndarray:
    """0 on some regions, growing to 1 at a distance from them."""
    from scipy.spatial import cKDTree

    template = model.template.numpy()
    inside = np.max([model.regions[name].numpy() for name in regions], axis=0) > 0.5
    distance = cKDTree(template[inside]).query(template)[0] if inside.any() else np.ones(len(template))
    return np.clip(distance / _FADE, 0, 1)


def _displacements(model: HeadModel, normals: np.ndarray, outer: np.ndarray) -> Tensor:
    template = model.template.numpy().astype(np.float64)
    able = np.flatnonzero(outer > 0.3)
    centres = template[able[_sample_evenly(template[able], _NUM_CONTROLS)]]
    distance = np.linalg.norm(template[:, None] - centres[None], axis=-1)
    weights = np.exp(-0.5 * (distance / _CONTROL_WIDTH) ** 2) * outer[:, None]
    return torch.from_numpy(weights[:, None, :] * normals[:, :, None]).float()


def _sample_evenly(points: np.ndarray, num: int) -> np.ndarray:
    """Indices of at most `num` points that are far from each other."""
    return sample_farthest(torch.from_numpy(points), min(num, len(points))).numpy()


def _distance_to_cut(template: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Metres from each vertex to the lower open border of the surface."""
    from scipy.spatial import cKDTree

    border = border_vertices(faces)
    border = border[template[border, 1] < template[:, 1].min() + 0.35 * np.ptp(template[:, 1])]
    return cKDTree(template[border]).query(template)[0] if len(border) else np.full(len(template), 1.0)


def border_vertices(faces: Int[np.ndarray, "faces 3"]) -> Int[np.ndarray, "border"]:
    """Vertices on edges that belong to one face only."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    return np.unique(unique[counts == 1])


def cut_share(model: HeadModel) -> Float[np.ndarray, "verts"]:
    """1 for vertices so near to where the bust is cut off that they say nothing about the outline, else 0."""
    return (_distance_to_cut(model.template.numpy(), model.faces.numpy()) <= _CUT_MARGIN).astype(np.float64)
