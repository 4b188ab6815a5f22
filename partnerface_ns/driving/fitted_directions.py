"""One head model's expressions in the coefficients of another whose directions have no names, such as FLAME's.

Both templates are laid over each other by eyes and lips; each vertex of the face takes the displacement of the nearest
vertex of the named model on the same side of the mouth, and least squares find the coefficients. It is an
approximation, as good as the two surfaces are alike.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.joints import EYES, Joint
from partnerface_ns.geometry.alignment import align_points

_JAW_DISTANCE = 0.05
"""Metres that upper and lower jaw count as apart, so that a lip is never matched with the other."""
_FAR = 0.02
"""Metres beyond which a vertex has no partner."""
_STIFFNESS = 1e-3
"""Ridge penalty as a share of the directions' mean energy: keeps weak directions from being used up."""


def carried_directions(theirs: HeadModel, model: HeadModel) -> Float[Tensor, "shapes expr"]:
    """Coefficients of `model` for each expression of `theirs` at 1: by name where both have it, else the nearest."""
    if theirs.fingerprint == model.fingerprint:
        return torch.eye(model.num_expr)
    own = {name: i for i, name in enumerate(model.expression_names) if not name.startswith("expr_")}
    by_name = [own.get(name) for name in theirs.expression_names]
    rows = fitted_directions(theirs, model) if None in by_name else torch.zeros(theirs.num_expr, model.num_expr)
    for row, index in zip(rows, by_name, strict=True):
        if index is not None:
            row.zero_()[index] = 1
    return rows


def fitted_directions(named: HeadModel, model: HeadModel) -> Float[Tensor, "shapes expr"]:
    """Coefficients of `model` that come nearest to each expression of `named` at 1."""
    scale, rotation, shift = align_points(_anchors(named), _anchors(model))
    aligned = scale * named.template.numpy().astype(np.float64) @ rotation.T + shift
    here, there = _face(named), _face(model)
    distance, nearest = cKDTree(_placed(aligned, named)[here]).query(_placed(model.template.numpy(), model)[there])
    kept = distance < _FAR
    moved = named.expression_dirs.numpy()[here][nearest[kept]].astype(np.float64)
    target = scale * np.einsum("ab,vbs->vas", rotation, moved).reshape(-1, moved.shape[-1])
    basis = model.expression_dirs.numpy()[there][kept].astype(np.float64).reshape(-1, model.num_expr)
    gram = basis.T @ basis
    ridge = _STIFFNESS * np.trace(gram) / len(gram) * np.eye(len(gram))
    return torch.from_numpy(np.linalg.solve(gram + ridge, basis.T @ target).T.astype(np.float32))


def _face(model: HeadModel) -> np.ndarray:
    """Indices of the face's skin."""
    skin = (model.regions["face"] > 0.5) & (model.regions["eyeballs"] < 0.5) & (model.regions["inside_mouth"] < 0.5)
    return skin.nonzero()[:, 0].numpy()


def _placed(verts: np.ndarray, model: HeadModel) -> np.ndarray:
    """Places and, as a fourth coordinate, the jaw's share."""
    return np.concatenate([verts, _JAW_DISTANCE * model.skinning_weights[:, [Joint.JAW]].numpy()], -1)


def _anchors(model: HeadModel) -> np.ndarray:
    """Centres of left eye, right eye and lips, (3, 3) metres."""
    eyes = (model.joint_regressor @ model.template)[EYES]
    lips = model.regions["lips"]
    mouth = (lips[:, None] * model.template).sum(0) / lips.sum()
    return torch.cat([eyes, mouth[None]]).numpy().astype(np.float64)
