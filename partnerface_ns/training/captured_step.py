"""A training step's forward and backward pass on a GPU, recorded (`recorded_work.py`) and played for every batch.

What head states alone say of a frame is not learned: it is computed once for each timestep and kept. Optimiser,
learning rates and the density grid's memory are outside.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.profiler import record_function

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.render_output import RenderOutput
from partnerface_ns.common.precision import ignore_outer_autocast
from partnerface_ns.flame.state import HeadState
from partnerface_ns.rendering.rays import RayBatch, Rays
from partnerface_ns.training.cuda_graph import CapturedWork
from partnerface_ns.training.objective import training_loss
from partnerface_ns.training.optimiser_groups import param_groups
from partnerface_ns.training.step_guard import StepResult, clip_gradients
from partnerface_ns.warp.inverse_skinning import PosedFrames

_KEPT_SHARE = 8
"""Posed frames take at most one in so many bytes of the memory that is free when training starts."""


class _Inputs(NamedTuple):
    """Everything that differs from step to step."""

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
    """The backward pass of rendered rays; clipped gradients lie in the parameters' `grad`, which was empty.

    Args:
        avatar: has rendered the rays.
        output: rendered rays.
        rgb: true colours.
        mask: true foreground.
    """
    terms = training_loss(avatar, output, rgb, mask)
    with record_function("backward pass"):
        torch.stack(list(terms.values())).sum().backward()
    norms = clip_gradients(param_groups(avatar))
    squared_error = (output.rgb.detach() - rgb).square().mean((1, 2))
    return StepResult({name: term.detach() for name, term in terms.items()}, squared_error, norms)


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a GPU."""
    return torch.cuda.mem_get_info(device)[0]


class CapturedStep:
    """Gradients of batches, as fast as a GPU can compute them.

    It must be the only one that computes gradients of its avatar. A recording is made anew when the avatar's stage or
    person or a batch's size changes, and at no other time.
    """

    def __init__(self, avatar: Avatar, track: HeadState, free: Callable[[torch.device], int] = free_bytes) -> None:
        """
        Args:
            avatar: on a GPU, in training mode.
            track: head states of the training capture, batch axes (timesteps,).
            free: gives the bytes that are free on a device; asked once, here.
        """
        self._avatar, self._track = avatar, track.to(avatar.identity.device)
        self._kept_bytes = free(avatar.identity.device) // _KEPT_SHARE
        self._posed: OrderedDict[int, PosedFrames] = OrderedDict()
        self._kind: tuple[int, ...] | None = None

    def __call__(self, batch: RayBatch) -> StepResult:
        """Compute the gradients of a batch on the CPU; they lie in the parameters' `grad` afterwards.

        Returns:
            The loss terms, the mean squared errors of colours and the norms of gradients, until the next call.
        """
        kind = (int(self._avatar.stage), *batch.rgb.shape[:2], id(self._avatar.skinning))
        if kind != self._kind:
            if self._kind is None or kind[-1] != self._kind[-1]:
                self._posed.clear()
            self._kind, self._recording = kind, CapturedWork(partial(_gradients, self._avatar))
        device = self._track.expression.device
        rays, timesteps = batch.rays, batch.timesteps.to(device)
        given = _Inputs(
            Rays(rays.origins.to(device), rays.directions.to(device)),
            self._track[timesteps],
            timesteps,
            self._posed_frames(batch.timesteps),
            batch.rgb.to(device),
            batch.mask.to(device),
        )
        result, gradients = self._recording(given)
        for parameter, gradient in gradients:  # an optimiser may have let go of it
            parameter.grad = gradient
        self._avatar.end_step(result.finite)
        return result

    def _posed_frames(self, timesteps: Int[Tensor, "frames"]) -> PosedFrames:
        """What the states of timesteps say, from memory where it is there."""
        found = []
        for t in timesteps.tolist():
            if t not in self._posed:
                posed = self._avatar.skinning.pose(self._track[t : t + 1])
                kept = {name: value.half() if name == "displacement" else value for name, value in vars(posed).items()}
                self._posed[t] = PosedFrames(**kept)
            self._posed.move_to_end(t)
            found.append(self._posed[t])
        one = sum(value.numel() * value.element_size() for value in vars(found[0]).values())
        while len(self._posed) * one > self._kept_bytes:
            self._posed.popitem(last=False)
        names = [f.name for f in fields(PosedFrames)]
        return PosedFrames(**{name: torch.cat([getattr(p, name) for p in found]).float() for name in names})


def _gradients(avatar: Avatar, given: _Inputs) -> tuple[StepResult, list[tuple[Tensor, Tensor]]]:
    """What a step was about, and the parameters that it concerns with their gradients."""
    avatar.zero_grad(set_to_none=True)
    frames = avatar.warp.pose_frames(given.states, given.timesteps, given.posed)
    output = avatar.render_frames(given.rays, frames, given.timesteps, fixed_shapes=True)
    result = backward(avatar, output, given.rgb, given.mask)
    return result, [(p, p.grad) for p in avatar.parameters() if p.grad is not None]
