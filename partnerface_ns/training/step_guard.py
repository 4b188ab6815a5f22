"""Keeps training steps that are not finite away from what learns, and clips the gradients of all others.

A step is finite if all of its loss terms and gradients are. Any other step is left out: neither the optimisers nor the
occupancy grid change. The decision stays on the device, so that a GPU is not waited for: fused optimisers read it there
(`found_inf`, as `torch.amp.GradScaler` uses it). The host reads it later, reports it, and ends a training that is lost.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from partnerface_ns.capture.capture import Frame
from partnerface_ns.common.errors import InputError

MAX_GRADIENT_NORM = 5.0
"""Norm of all gradients together to which a larger one is scaled down: ten times what 99% of ordinary steps stay below
(docs/experiments.md, "Norms of gradients")."""
MAX_LEFT_OUT = 10
"""Steps in a row that are not finite, after which training ends."""
_READ_EVERY = 16
"""Steps after which a GPU's decisions are read: reading waits until the GPU has done all of its work."""


class StepResult(NamedTuple):
    """What a training step was about."""

    terms: dict[str, Float[Tensor, ""]]
    """Weighted loss terms."""
    squared_error: Float[Tensor, "frames"]
    """Mean over the rays of each of the batch's frames."""
    gradient_norms: dict[str, Float[Tensor, ""]]
    """Of each parameter group, before clipping."""

    @property
    def finite(self) -> Bool[Tensor, ""]:
        """Whether all loss terms and all gradients are finite, on their device."""
        return torch.stack([*self.terms.values(), *self.gradient_norms.values()]).isfinite().all()


def clip_gradients(groups: Mapping[str, Iterable[nn.Parameter]]) -> dict[str, Float[Tensor, ""]]:
    """Scale gradients down together, where their norm is above `MAX_GRADIENT_NORM`; others stay bit by bit.

    Returns:
        Each group's norm before, of those groups that have gradients.
    """
    gradients = {name: [p.grad for p in parameters if p.grad is not None] for name, parameters in groups.items()}
    norms = {name: torch.stack([g.norm() for g in found]).norm() for name, found in gradients.items() if found}
    if norms:
        factor = (MAX_GRADIENT_NORM / torch.stack(list(norms.values())).norm()).clamp(max=1)
        for gradient in chain.from_iterable(gradients.values()):
            gradient.mul_(factor)
    return norms


class _Taken(NamedTuple):
    """A step that the host has not looked at yet."""

    step: int
    names: tuple[str, ...]
    """Of what was looked at: loss terms and parameter groups."""
    finite: Bool[Tensor, "looked_at"]
    frames: Sequence[Frame]
    finite_frames: Bool[Tensor, "frames"]


class StepGuard:
    """Leaves out steps that are not finite, reports them, and ends training after `MAX_LEFT_OUT` in a row."""

    def __init__(
        self, source: Path | str, optimizers: Iterable[torch.optim.Optimizer], say: Callable[[str], None] | None = None
    ) -> None:
        """
        Args:
            source: what an error names: the run's folder.
            optimizers: fused ones, of all that learns.
            say: takes one line of text; prints to stderr by default.
        """
        self._source, self._optimizers = source, list(optimizers)
        self._say = say or _print
        on_gpu = any(p.is_cuda for o in self._optimizers for group in o.param_groups for p in group["params"])
        self._read_every = _READ_EVERY if on_gpu else 1
        self._unread: list[_Taken] = []
        self._in_a_row = self._left_out = 0

    def admit(self, step: int, result: StepResult, frames: Sequence[Frame]) -> None:
        """Let the optimisers take a step, or leave it out; call after its gradients and before their `step`.

        Args:
            step: counted over the whole run.
            result: of the step.
            frames: of the step's batch.

        Raises:
            InputError: the last `MAX_LEFT_OUT` steps were left out, or more of them on a GPU.
        """
        left_out = (~result.finite).float()
        for optimizer in self._optimizers:
            optimizer.found_inf = left_out  # type: ignore[attr-defined]
        self.note(step, result, frames)

    def note(self, step: int, result: StepResult, frames: Sequence[Frame]) -> None:
        """Count and report a step; arguments and error as for `admit`."""
        values = {**result.terms, **{f"gradient of {name}": norm for name, norm in result.gradient_norms.items()}}
        finite = torch.stack(list(values.values())).isfinite()
        self._unread.append(_Taken(step, tuple(values), finite, frames, result.squared_error.isfinite()))
        if len(self._unread) >= self._read_every:
            self._read()

    def end(self) -> None:
        """Count and report the last steps, when training ends; error as for `admit`."""
        self._read()
        if self._left_out:
            self._say(f"{self._left_out} training steps were left out, because they were not finite.")

    def _read(self) -> None:
        unread, self._unread = self._unread, []
        if unread and all(torch.stack([taken.finite.all() for taken in unread]).tolist()):
            self._in_a_row = 0
            return
        for taken in unread:
            self._count(taken)

    def _count(self, taken: _Taken) -> None:
        finite = taken.finite.tolist()
        if all(finite):
            self._in_a_row = 0
            return
        self._in_a_row += 1
        self._left_out += 1
        wrong = ", ".join(name for name, good in zip(taken.names, finite, strict=True) if not good)
        shown = _named(taken.frames, taken.finite_frames.tolist())
        if self._in_a_row >= MAX_LEFT_OUT:
            raise InputError(
                self._source,
                f"the last {MAX_LEFT_OUT} training steps are not finite",
                key=f"step {taken.step}",
                expected="finite loss terms and gradients",
                found=f"not finite: {wrong}; {shown}",
                hint="checkpoints stay as they are; check the capture with `partnerface inspect`",
            )
        if self._left_out & (self._left_out - 1) == 0:  # 1, 2, 4, 8, ...: a long run is not flooded
            self._say(f"Step {taken.step} is left out ({self._left_out} so far). Not finite: {wrong}; {shown}")


def _named(frames: Sequence[Frame], finite: Sequence[bool]) -> str:
    """The frames whose colours are not finite, else all."""
    wrong = [frame for frame, good in zip(frames, finite, strict=True) if not good] or frames
    return ", ".join(f"{f.image_path.name if f.image_path else 'image'} (timestep {f.timestep})" for f in wrong)


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
