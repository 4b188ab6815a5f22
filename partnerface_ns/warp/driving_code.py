"""Driving code: the part of a head state that the deformation networks receive, and its visibility to each part.

The code of a frame holds its expression coefficients and the rotations of jaw, eyes and neck, normalised by the
statistics of training. Entries that hardly varied in training are scaled towards zero, because no network can learn
their effect. A part does not see entries that do not move its surface. Otherwise a brow could learn to follow the jaw
because both moved together in one video. This visibility is our choice.
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
"""Smallest standard deviations of expression coefficients and of angles (radians) in training that are not reduced."""


class DrivingCode(nn.Module):
    """Normalises head states to driving codes."""

    mean: Tensor
    std: Tensor
    seen: Tensor

    def __init__(self, states: HeadState) -> None:
        """
        Args:
            states: head states of training, batch axes (timesteps,); their mean and standard deviation are stored.
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
        """Number of entries of a code."""
        return self.mean.shape[0]

    def forward(self, states: HeadState) -> Float[Tensor, "frames code"]:
        """Codes of head states, within +-3 and about standard normal over training."""
        return self.seen * ((_raw_code(states) - self.mean) / self.std).clamp(-_LIMIT, _LIMIT)


def code_visibility(
    code: DrivingCode, head: ShapedHead, verts_canonical: Float[Tensor, "verts 3"], seeds: Float[Tensor, "parts 3"]
) -> Float[Tensor, "parts code"]:
    """Visibility in [0, 1] of each code entry to each part.

    Each entry is moved by one standard deviation, and each part's vertices move by some mean distance in the skull's
    frame. Visibility is twice this distance over the largest of any part, at most 1.

    Args:
        code: gives the standard deviations.
        head: the person.
        verts_canonical: the canonical mesh's vertices, metres.
        seeds: part centres, canonical frame, metres.
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
    motion_of_part = (motion @ owner / owner.sum(0).clamp(min=1)).T
    return (2 * motion_of_part / motion_of_part.amax(0).clamp(min=1e-9)).clamp(max=1)


def _raw_code(states: HeadState) -> Float[Tensor, "frames code"]:
    return torch.cat([states.expression, states.jaw, states.eyes, states.neck], -1)
