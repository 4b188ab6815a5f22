"""Expressions of one head model in the coefficients of another, whose directions may have no names, such as FLAME's.

The templates are aligned by eyes and lips. Each vertex of the face takes the displacement of the nearest vertex of the
named model on the same side of the mouth, and least squares give the coefficients. The result is an approximation,
whose error grows with the difference between the two surfaces.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.geometry.alignment import align_points

_JAW_DISTANCE = 0.05
"""Metres added between upper and lower jaw, so that vertices of one lip are never matched with the other lip."""
_MAX_DISTANCE = 0.02
"""Largest distance of matched vertices, metres."""
_STIFFNESS = 1e-3
"""Ridge penalty as a share of the directions' mean energy. It keeps coefficients of weak directions small."""


def expression_map(source: HeadModel, model: HeadModel) -> Float[Tensor, "shapes expr"]:
    """Coefficients of `model` for each expression of `source` at 1.

    An expression that both models name maps to itself; others are fitted.
    """
    if source.fingerprint == model.fingerprint:
        return torch.eye(model.num_expr)
    own = {name: i for i, name in enumerate(model.expression_names) if not name.startswith("expr_")}
    by_name = [own.get(name) for name in source.expression_names]
    rows = fit_expressions(source, model) if None in by_name else torch.zeros(source.num_expr, model.num_expr)
    for row, index in zip(rows, by_name, strict=True):
        if index is not None:
            row.zero_()[index] = 1
    return rows


def fit_expressions(named: HeadModel, model: HeadModel) -> Float[Tensor, "shapes expr"]:
    """Coefficients of `model` that best approximate each expression of `named` at 1."""
    scale, rotation, shift = align_points(_anchors(named), _anchors(model))
    aligned = scale * named.template.numpy().astype(np.float64) @ rotation.T + shift
    here, there = _face(named), _face(model)
    tree = KDTree(_matching_points(aligned, named)[here])
    distance, nearest = map(np.asarray, tree.query(_matching_points(model.template.numpy(), model)[there]))
    kept = distance < _MAX_DISTANCE
    moved = named.expression_dirs.numpy()[here][nearest[kept]].astype(np.float64)
    target = scale * np.einsum("ab,vbs->vas", rotation, moved).reshape(-1, moved.shape[-1])
    basis = model.expression_dirs.numpy()[there][kept].astype(np.float64).reshape(-1, model.num_expr)
    gram = basis.T @ basis
    ridge = _STIFFNESS * np.trace(gram) / len(gram) * np.eye(len(gram))
    return torch.from_numpy(np.linalg.solve(gram + ridge, basis.T @ target).T.astype(np.float32))


def _face(model: HeadModel) -> Int[np.ndarray, "verts"]:
    """Vertex indices of the face's skin, without eyeballs and mouth interior."""
    skin = (model.regions["face"] > 0.5) & (model.regions["eyeballs"] < 0.5) & (model.regions["inside_mouth"] < 0.5)
    return skin.nonzero()[:, 0].numpy()


def _matching_points(verts: Float[np.ndarray, "verts 3"], model: HeadModel) -> Float[np.ndarray, "verts 4"]:
    """Positions with the jaw's skinning weight as a fourth coordinate."""
    return np.concatenate([verts, _JAW_DISTANCE * model.skinning_weights[:, 2:3].numpy()], -1)


def _anchors(model: HeadModel) -> Float[np.ndarray, "3 3"]:
    """Centres of the left eye, the right eye and the lips, metres."""
    eyes = (model.joint_regressor @ model.template)[3:5]
    lips = model.regions["lips"]
    mouth = (lips[:, None] * model.template).sum(0) / lips.sum()
    return torch.cat([eyes, mouth[None]]).numpy().astype(np.float64)
