"""The driving code: what a deformation network is told of a frame, and how much of it each part is told.

A frame's code is its expression coefficients and the rotations of jaw, eyes and neck, normalised by what training
saw. An entry that hardly varied in training says nothing: no network could have learned what to make of it. Where a
part's surface does not move with an entry, the part does not see that entry: so a brow cannot learn to follow the jaw
merely because the two moved together in one video. This view of the code is our choice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import invert_rigid

_LIMIT = 3.0
"""Standard deviations at which a code entry saturates."""
_SMALLEST_STD = (0.05, 0.02)
"""Standard deviations of expression coefficients and of angles (radians) in training below which they count less."""


class DrivingCode(nn.Module):
    """Normalises head states to codes."""

    def __init__(self, states: HeadState) -> None:
        """
        Args:
            states: head states of training, batch axes (timesteps,); they give mean and spread.
        """
        super().__init__()
        raw = _raw_code(states)
        smallest = torch.full((raw.shape[-1],), _SMALLEST_STD[1])
        smallest[: states.expression.shape[-1]] = _SMALLEST_STD[0]
        self.register_buffer("mean", raw.mean(0))
        std = raw.std(0, correction=0)
        self.register_buffer("std", torch.maximum(std.cpu(), smallest).to(raw.device))
        self.register_buffer("seen", std / self.std)

    @property
    def size(self) -> int:
        return self.mean.shape[0]

    def forward(self, states: HeadState) -> Float[Tensor, "frames code"]:
        """Codes of the frames, about standard normal over training, within +-3."""
        return self.seen * ((_raw_code(states) - self.mean) / self.std).clamp(-_LIMIT, _LIMIT)


def code_visibility(
    code: DrivingCode, head: ShapedHead, verts_canonical: Float[Tensor, "verts 3"], seeds: Float[Tensor, "parts 3"]
) -> Float[Tensor, "parts code"]:
    """How much of each code entry each part sees, in [0, 1].

    Each entry is moved by one standard deviation and the mean motion of each part's vertices, seen from the skull, is
    compared with that of the part it moves most; half of that or more counts as full sight.
    """
    num_expr = head.model.num_expr
    steps = torch.cat([torch.zeros(1, code.size), torch.diag(code.std.cpu())]).to(seeds.device)
    expression, jaw, eyes, neck = steps.split([num_expr, 3, 6, 3], dim=1)
    zero = torch.zeros_like(neck)
    posed = head.pose(HeadState(expression, zero, neck, jaw, eyes, zero))
    T_rest_skull = invert_rigid(posed.T_world_rest[:, Joint.NECK])
    verts = torch.einsum("nab,nvb->nva", T_rest_skull[:, :3, :3], posed.verts) + T_rest_skull[:, None, :3, 3]
    motion = (verts[1:] - verts[:1]).norm(dim=-1)
    owner = F.one_hot(torch.cdist(verts_canonical, seeds).argmin(1), seeds.shape[0]).to(motion.dtype)
    of_part = (motion @ owner / owner.sum(0).clamp(min=1)).T
    return (2 * of_part / of_part.amax(0).clamp(min=1e-9)).clamp(max=1)


def _raw_code(states: HeadState) -> Float[Tensor, "frames code"]:
    return torch.cat([states.expression, states.jaw, states.eyes, states.neck], -1)
