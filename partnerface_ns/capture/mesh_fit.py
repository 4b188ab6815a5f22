"""Head model parameters fitted to posed meshes, for layouts that export little but meshes.

The meshes have the head model's topology and no global, neck or translational motion, and their expression is known.
Jaw and eye rotations are therefore those of the vertices that follow one of these joints alone. The identity is a
linear least-squares problem. Pose correctives depend on the rotations, so both are iterated. Eyelids that a tracker
moved separately are not fitted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from partnerface_ns.capture.json_object import MAX_NUMBER
from partnerface_ns.capture.rotations import axis_angle_from_matrix
from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import require_file
from partnerface_ns.common.npz_file import require_bounded
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.alignment import align_vectors

MAX_OBJ_BYTES = 16 << 20
_ROUNDS = 10
_TOLERANCE = 1e-6
"""Change of rotation matrices and coefficients below which the iteration stops."""
_NOISE = 1e-5
"""Standard deviation of mesh vertices in metres, for the regularisation of identity coefficients."""
_FITTED_JOINTS = (Joint.JAW, Joint.EYE_LEFT, Joint.EYE_RIGHT)
_MIN_VERTS = 3
_RIGID_WEIGHT = 0.99
"""Skinning weight above which a vertex follows one joint alone."""


def read_obj_verts(path: Path, num_verts: int) -> Float[np.ndarray, "verts 3"]:
    """Vertices of a Wavefront OBJ file, in its order, metres.

    Raises:
        InputError: missing, another number of vertices, or a vertex is not three finite numbers.
    """
    require_file(path, max_bytes=MAX_OBJ_BYTES)
    rows = [line.split()[1:4] for line in path.read_bytes().splitlines() if line.startswith(b"v ")]
    if len(rows) != num_verts:
        raise InputError(path, "not the head model's mesh", key="v", expected=f"{num_verts} vertices", actual=len(rows))
    try:
        verts = np.array(rows, dtype=np.float64).reshape(num_verts, 3)
    except ValueError as error:
        raise InputError(path, "a vertex is not three numbers", key="v", actual=shorten(error)) from error
    require_bounded(verts, MAX_NUMBER, path, "v")
    return verts


def fit_identity(head: HeadModel, canonical: Float[np.ndarray, "verts 3"]) -> Float[np.ndarray, "identity"]:
    """Identity coefficients of a mesh without expression. Its jaw may be open.

    Args:
        head: the model.
        canonical: vertices of the mesh, metres.
    """
    template, neutral = head.template.double().numpy(), HeadState.neutral(head.num_expr)
    directions = head.identity_dirs.double().numpy()
    skull = (head.skinning_weights[:, Joint.JAW :].sum(-1) < 1 - _RIGID_WEIGHT).numpy()
    identity = _LeastSquares(directions[skull]).coefficients((canonical - template)[skull])
    everywhere = _LeastSquares(directions)
    for _ in range(_ROUNDS):
        shaped = ShapedHead.of(head, torch.from_numpy(identity.astype(np.float32)))
        state = _JointFit(shaped).fit(neutral, canonical)
        before, identity = identity, everywhere.coefficients(_unpose(shaped, state, canonical) - template)
        if np.abs(identity - before).max() < _TOLERANCE:
            break
    return identity.astype(np.float32)


def fit_jaw_and_eyes(
    shaped: ShapedHead, states: HeadState, meshes: Iterable[np.ndarray]
) -> tuple[HeadState, Float[np.ndarray, "frames"]]:
    """Fit jaw and eye rotations to posed meshes.

    Args:
        shaped: the person.
        states: expressions of all frames, batch axes (frames,). Jaw and eyes are replaced.
        meshes: vertices (verts, 3) of each frame, metres.

    Returns:
        The states, and each frame's mean vertex distance from its mesh in metres.
    """
    joint_fit = _JointFit(shaped)
    fitted, distances = [], []
    for index, mesh in enumerate(meshes):
        fitted.append(joint_fit.fit(states[index], mesh))
        verts = shaped.pose(fitted[-1]).verts.double().numpy()
        distances.append(float(np.linalg.norm(verts - mesh, axis=-1).mean()))
    return HeadState.stack(fitted), np.array(distances)


class _JointFit:
    """Fits jaw and eye rotations to the vertices that follow one of these joints alone."""

    def __init__(self, shaped: ShapedHead) -> None:
        model, self._shaped = shaped.model, shaped
        weights, num_verts = model.skinning_weights.numpy(), model.num_verts
        correctives = model.pose_dirs.double().numpy().reshape(-1, num_verts, 3)
        indices = {joint: np.flatnonzero(weights[:, joint] > _RIGID_WEIGHT) for joint in _FITTED_JOINTS}
        self._groups = {
            joint: (group, correctives[:, group]) for joint, group in indices.items() if len(group) >= _MIN_VERTS
        }

    def fit(self, state: HeadState, mesh: Float[np.ndarray, "verts 3"]) -> HeadState:
        """The state with the jaw and eye rotations that fit the mesh."""
        model = self._shaped.model
        expressed = self._shaped.verts_rest + model.expression_dirs @ state.expression
        pivots = (model.joint_regressor @ expressed).double().numpy()
        still = expressed.double().numpy()
        rotations = np.tile(np.eye(3), (len(pivots), 1, 1))
        for _ in range(_ROUNDS):
            before, features = rotations.copy(), (rotations[1:] - np.eye(3)).reshape(-1)
            for joint, (group, correctives) in self._groups.items():
                rest = still[group] + np.einsum("f,fvc->vc", features, correctives)
                rotations[joint] = align_vectors(rest - pivots[joint], mesh[group] - pivots[joint])
            if np.abs(rotations - before).max() < _TOLERANCE:
                break
        jaw, *eyes = torch.from_numpy(axis_angle_from_matrix(rotations[list(_FITTED_JOINTS)]).astype(np.float32))
        return replace(state, jaw=jaw, eyes=torch.cat(eyes))


def _unpose(shaped: ShapedHead, state: HeadState, verts: Float[np.ndarray, "verts 3"]) -> Float[np.ndarray, "verts 3"]:
    """Vertices in the rest pose without expression and correctives: the inverse of skinning."""
    posed = shaped.pose(state)
    T_rest_world = np.linalg.inv(posed.skinning(shaped.model.skinning_weights).double().numpy())
    rest = np.einsum("vab,vb->va", T_rest_world[:, :3, :3], verts) + T_rest_world[:, :3, 3]
    return rest - posed.offsets.double().numpy()


class _LeastSquares:
    """Solves for the coefficients of vertex directions, with a prior of unit variance."""

    def __init__(self, directions: Float[np.ndarray, "verts 3 coefficients"]) -> None:
        self._rows = directions.reshape(-1, directions.shape[-1])
        self._normal = self._rows.T @ self._rows + _NOISE**2 * np.eye(directions.shape[-1])

    def coefficients(self, offsets: Float[np.ndarray, "verts 3"]) -> Float[np.ndarray, "coefficients"]:
        return np.linalg.solve(self._normal, self._rows.T @ offsets.reshape(-1))
