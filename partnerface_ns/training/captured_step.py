"""Forward and backward pass of a training step, captured in a CUDA graph (`cuda_graph.py`).

The graph is replayed for every batch. Posed frames depend on head states only, so they are computed once for each
timestep and cached. Optimisers, learning rates and updates of the occupancy grid are outside the graph.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.profiler import record_function

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.render_output import RenderOutput
from partnerface_ns.common.precision import ignore_outer_autocast
from partnerface_ns.flame.state import HeadState
from partnerface_ns.rendering.rays import RayBatch, Rays
from partnerface_ns.training.cuda_graph import CapturedWork
from partnerface_ns.training.objective import has_clear_term, training_loss
from partnerface_ns.training.optimiser_groups import param_groups
from partnerface_ns.training.step_guard import StepResult, clip_gradients
from partnerface_ns.warp.inverse_skinning import PosedFrames

_CACHE_FRACTION = 8
"""Cached posed frames take at most 1 / 8 of the memory that is free when training starts."""


class _Inputs(NamedTuple):
    """Inputs of a training step."""

    rays: Rays
    states: HeadState
    timesteps: Int[Tensor, "frames"]
    posed: PosedFrames
    rgb: Float[Tensor, "frames rays 3"]
    mask: Float[Tensor, "frames rays 1"]


@ignore_outer_autocast()
def backward(
    avatar: Avatar, output: RenderOutput, rgb: Float[Tensor, "frames rays 3"], mask: Float[Tensor, "frames rays 1"]
) -> StepResult:
    """Compute the losses and clipped gradients of rendered rays. The parameters' `grad` must be None before.

    Args:
        avatar: the avatar that rendered the rays.
        output: rendered rays.
        rgb: true colours in [0, 1].
        mask: true foreground in [0, 1].
    """
    terms = training_loss(avatar, output, rgb, mask)
    with record_function("backward pass"):
        torch.stack(list(terms.values())).sum().backward()
    norms = clip_gradients(param_groups(avatar))
    squared_error = (output.rgb.detach() - rgb).square().mean((1, 2))
    return StepResult({name: term.detach() for name, term in terms.items()}, squared_error, norms)


def free_bytes(device: torch.device) -> int:
    """Free memory of a GPU, bytes."""
    return torch.cuda.mem_get_info(device)[0]


class CapturedStep:
    """Computes gradients of batches by a CUDA graph.

    Nothing else may compute gradients of the avatar. A new graph is captured when the avatar's stage or identity, the
    size of a batch, or the terms of the loss change. It is also captured when noise on view directions begins, and at
    no other time.
    """

    def __init__(self, avatar: Avatar, track: HeadState, free: Callable[[torch.device], int] = free_bytes) -> None:
        """
        Args:
            avatar: on a GPU, in training mode.
            track: head states of the training capture, batch axes (timesteps,).
            free: returns the free bytes of a device; called once, in the constructor.
        """
        self._avatar, self._track = avatar, track.to(avatar.identity.device)
        self._cache_bytes = free(avatar.identity.device) // _CACHE_FRACTION
        self._cache: OrderedDict[int, PosedFrames] = OrderedDict()
        self._kind: tuple[int, ...] | None = None

    def __call__(self, batch: RayBatch) -> StepResult:
        """Compute the gradients of a batch, which lies on the CPU, and store them in the parameters' `grad`.

        Returns:
            The result of the step, valid until the next call.
        """
        avatar = self._avatar
        changing = has_clear_term(avatar), avatar.view_noise > 0
        kind = (int(avatar.stage), *batch.rgb.shape[:2], *changing, id(avatar.skinning))
        if kind != self._kind:
            if self._kind is None or kind[-1] != self._kind[-1]:
                self._cache.clear()
            self._kind, self._work = kind, CapturedWork(partial(_gradients, self._avatar))
        device = self._track.expression.device
        rays, timesteps = batch.rays, batch.timesteps.to(device)
        inputs = _Inputs(
            Rays(rays.origins.to(device), rays.directions.to(device)),
            self._track[timesteps],
            timesteps,
            self._posed_frames(batch.timesteps),
            batch.rgb.to(device),
            batch.mask.to(device),
        )
        result, gradients = self._work(inputs)
        for parameter, gradient in gradients:  # an optimiser may have set it to None
            parameter.grad = gradient
        self._avatar.end_step(result.finite)
        return result

    def _posed_frames(self, timesteps: Int[Tensor, "frames"]) -> PosedFrames:
        """Posed frames of timesteps, from the cache where possible. The cache holds displacements as float16."""
        frames = []
        for t in timesteps.tolist():
            if t not in self._cache:
                posed = self._avatar.skinning.pose(self._track[t : t + 1])
                self._cache[t] = replace(posed, displacement=posed.displacement.half())
            self._cache.move_to_end(t)
            frames.append(self._cache[t])
        bytes_per_frame = sum(value.numel() * value.element_size() for value in vars(frames[0]).values())
        while len(self._cache) * bytes_per_frame > self._cache_bytes:
            self._cache.popitem(last=False)
        names = [f.name for f in fields(PosedFrames)]
        return PosedFrames(**{name: torch.cat([getattr(f, name) for f in frames]).float() for name in names})


def _gradients(avatar: Avatar, inputs: _Inputs) -> tuple[StepResult, list[tuple[nn.Parameter, Tensor]]]:
    """Result of a step, and pairs of parameters and gradients."""
    avatar.zero_grad(set_to_none=True)
    frames = avatar.warp.pose_frames(inputs.states, inputs.timesteps, inputs.posed)
    output = avatar.render_frames(inputs.rays, frames, inputs.timesteps, fixed_shapes=True)
    result = backward(avatar, output, inputs.rgb, inputs.mask)
    return result, [(p, p.grad) for p in avatar.parameters() if p.grad is not None]
