"""Detection of implausible heads: coefficients, rotations and surfaces that no face has. They are not trained on.

Surfaces are judged by the length of their edges. An expression changes it by a few percent on average, a torn surface
by many times that.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partnerface_ns.capture.capture import Capture
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.posing import ShapedHead

MAX_COEFFICIENT = 30.0
"""Coefficients are standard deviations or shares of a full expression. Those of real faces stay below ten."""
MAX_STRETCH = 0.15
"""Mean change of edge lengths against rest, as a share of the mean length. Expressions stay below 0.05."""
MAX_TURNS = {"neck": 2.0, "jaw": 1.0, "eyes": 1.6}
"""Largest rotation of a joint in radians, somewhat larger than any face reaches."""
_MAX_NAMED = 8


def drop_torn_heads(capture: Capture, model: HeadModel) -> Capture:
    """The capture without frames whose head is implausible. A warning names them.

    Raises:
        InputError: the identity is implausible, or at least half of the heads are.
    """
    _check_identity(capture)
    reasons = torn_timesteps(capture, model)
    left_out = {i: reasons[frame.timestep] for i, frame in enumerate(capture.frames) if frame.timestep in reasons}
    if not left_out:
        return capture
    names = [f"{capture.frames[i].name} ({reason})" for i, reason in left_out.items()]
    affected = f"{len(names)} of {len(capture.frames)} frames: {join_names(names)}"
    if 2 * len(left_out) >= len(capture.frames):
        raise InputError(
            capture.root,
            "the tracked head is no face",
            expected=f"coefficients up to {MAX_COEFFICIENT:g}, angles in radians, a surface that is not torn",
            actual=affected,
            hint="another head model than the capture was tracked with, or the tracker lost the face",
        )
    warning = f"the head is torn in {affected}; they are left out"
    return replace(capture.without(left_out), warnings=(*capture.warnings, warning))


def join_names(names: list[str]) -> str:
    """Names in one line: the first few and the number of others."""
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def torn_timesteps(capture: Capture, model: HeadModel) -> dict[int, str]:
    """Timesteps with an implausible head, and the reason for each."""
    track = capture.track
    coefficient = track.expression.abs().amax(-1)
    turns = {name: _angle(getattr(track, name).unflatten(-1, (-1, 3))).amax(-1) for name in MAX_TURNS}
    stretch = _stretches(capture, model, coefficient <= MAX_COEFFICIENT)
    reasons: dict[int, str] = {}
    for t in range(capture.num_timesteps):
        turned = [name for name, limit in MAX_TURNS.items() if not float(turns[name][t]) <= limit]
        if not float(coefficient[t]) <= MAX_COEFFICIENT:
            reasons[t] = f"an expression coefficient of {float(coefficient[t]):.3g}"
        elif turned:
            reasons[t] = f"{turned[0]} turned by {np.degrees(float(turns[turned[0]][t])):.0f} degrees"
        elif not stretch[t] <= MAX_STRETCH:
            reasons[t] = f"edges change by {100 * stretch[t]:.0f}%"
    return reasons


def _check_identity(capture: Capture) -> None:
    largest = float(capture.identity.abs().max())
    if not largest <= MAX_COEFFICIENT:
        raise InputError(
            capture.root,
            "the identity is no person's",
            expected=f"coefficients from {-MAX_COEFFICIENT:g} to {MAX_COEFFICIENT:g}",
            actual=f"{largest:.3g}",
        )


def _angle(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
    """Angle of rotation vectors modulo full turns, 0 to pi."""
    angle = rotvec.norm(dim=-1) % (2 * torch.pi)
    return torch.minimum(angle, 2 * torch.pi - angle)


def _stretches(
    capture: Capture, model: HeadModel, selected: Bool[Tensor, "timesteps"]
) -> Float[np.ndarray, "timesteps"]:
    """Mean change of edge lengths for each timestep, as a share of their mean; 0 where `selected` is false."""
    shaped = ShapedHead.of(model, capture.identity, capture.static_offset)
    edges = _edges(model)
    rest = _lengths(shaped.verts_rest, edges)
    stretches = np.zeros(capture.num_timesteps)
    indices = torch.nonzero(selected)[:, 0]
    for some in indices.split(16) if len(indices) else ():
        lengths = _lengths(shaped.pose(capture.track[some]).verts, edges)
        stretches[some.numpy()] = ((lengths - rest).abs().sum(-1) / rest.sum()).numpy()
    return stretches


def _edges(model: HeadModel) -> Tensor:
    """Vertex indices of all edges, (edges, 2)."""
    pairs = model.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    return pairs.sort(-1).values.unique(dim=0)


def _lengths(verts: Float[Tensor, "*batch verts 3"], edges: Tensor) -> Float[Tensor, "*batch edges"]:
    return (verts[..., edges[:, 0], :] - verts[..., edges[:, 1], :]).norm(dim=-1)
