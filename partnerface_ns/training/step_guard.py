"""Leaves out training steps with non-finite values, and clips gradients.

A step is finite if all its loss terms and gradients are. Any other step is left out: it changes neither parameters nor
the occupancy grid. The decision stays on the GPU, so no step waits for it: fused optimisers read it there (`found_inf`,
as `torch.amp.GradScaler` sets it). The host reads it later, reports it, and ends training after too many such steps.
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
"""Largest norm of all gradients together; larger gradients are scaled down to it. In 99% of ordinary steps the norm is
below a tenth of it (docs/experiments.md, "Norms of gradients")."""
MAX_LEFT_OUT = 10
"""Number of non-finite steps in a row after which training ends."""
_READ_EVERY = 16
"""Steps between two reads of the decisions on a GPU; a read waits for all queued work."""


class StepResult(NamedTuple):
    """Result of a training step."""

    terms: dict[str, Float[Tensor, ""]]
    """Weighted loss terms."""
    squared_error: Float[Tensor, "frames"]
    """Mean squared colour error of each frame in the batch."""
    gradient_norms: dict[str, Float[Tensor, ""]]
    """Gradient norm of each parameter group, before clipping."""

    @property
    def finite(self) -> Bool[Tensor, ""]:
        """Whether all loss terms and gradients are finite, as a tensor on their device."""
        return torch.stack([*self.terms.values(), *self.gradient_norms.values()]).isfinite().all()


def clip_gradients(groups: Mapping[str, Iterable[nn.Parameter]]) -> dict[str, Float[Tensor, ""]]:
    """Scale all gradients down by one factor if their common norm is above `MAX_GRADIENT_NORM`.

    Smaller gradients stay bitwise the same.

    Returns:
        The norm before clipping of each group that has gradients.
    """
    gradients = {name: [p.grad for p in parameters if p.grad is not None] for name, parameters in groups.items()}
    norms = {name: torch.stack([g.norm() for g in group]).norm() for name, group in gradients.items() if group}
    if norms:
        factor = (MAX_GRADIENT_NORM / torch.stack(list(norms.values())).norm()).clamp(max=1)
        for gradient in chain.from_iterable(gradients.values()):
            gradient.mul_(factor)
    return norms


class _UnreadStep(NamedTuple):
    """A step whose decision the host has not read yet."""

    step: int
    names: tuple[str, ...]
    """Names of the checked values: loss terms and parameter groups."""
    finite: Bool[Tensor, "names"]
    """Whether each value is finite."""
    frames: Sequence[Frame]
    """Frames of the batch."""
    finite_frames: Bool[Tensor, "frames"]
    """Whether each frame's colour error is finite."""


class StepGuard:
    """Leaves out non-finite steps, reports them, and ends training after `MAX_LEFT_OUT` in a row."""

    def __init__(
        self, source: Path | str, optimizers: Iterable[torch.optim.Optimizer], say: Callable[[str], None] | None = None
    ) -> None:
        """
        Args:
            source: the run's folder, for error messages.
            optimizers: fused optimisers of all trained parameters.
            say: reports one line of text; prints to stderr by default.
        """
        self._source, self._optimizers = source, list(optimizers)
        self._say = say or _print
        on_gpu = any(p.is_cuda for o in self._optimizers for group in o.param_groups for p in group["params"])
        self._read_every = _READ_EVERY if on_gpu else 1
        self._unread: list[_UnreadStep] = []
        self._in_a_row = self._left_out = 0

    def admit(self, step: int, result: StepResult, frames: Sequence[Frame]) -> None:
        """Make the optimisers skip the step if it is not finite. Call between the backward pass and `optimizer.step`.

        Args:
            step: number of the step in the whole run.
            result: the step's result.
            frames: frames of the step's batch.

        Raises:
            InputError: the last `MAX_LEFT_OUT` steps were left out. A GPU may have left out a few more by then.
        """
        left_out = (~result.finite).float()
        for optimizer in self._optimizers:
            optimizer.found_inf = left_out  # type: ignore[attr-defined]
        self.note(step, result, frames)

    def note(self, step: int, result: StepResult, frames: Sequence[Frame]) -> None:
        """Record a step for the report; arguments and error as for `admit`."""
        values = {**result.terms, **{f"gradient of {name}": norm for name, norm in result.gradient_norms.items()}}
        finite = torch.stack(list(values.values())).isfinite()
        self._unread.append(_UnreadStep(step, tuple(values), finite, frames, result.squared_error.isfinite()))
        if len(self._unread) >= self._read_every:
            self._read()

    def end(self) -> None:
        """Report the last steps, at the end of training; error as for `admit`."""
        self._read()
        if self._left_out:
            self._say(f"{self._left_out} training steps were left out because they were not finite.")

    def _read(self) -> None:
        unread, self._unread = self._unread, []
        if unread and all(torch.stack([step.finite.all() for step in unread]).tolist()):
            self._in_a_row = 0
            return
        for step in unread:
            self._count(step)

    def _count(self, unread: _UnreadStep) -> None:
        finite = unread.finite.tolist()
        if all(finite):
            self._in_a_row = 0
            return
        self._in_a_row += 1
        self._left_out += 1
        wrong = ", ".join(name for name, good in zip(unread.names, finite, strict=True) if not good)
        shown = _describe(unread.frames, unread.finite_frames.tolist())
        if self._in_a_row >= MAX_LEFT_OUT:
            raise InputError(
                self._source,
                f"the last {MAX_LEFT_OUT} training steps are not finite",
                key=f"step {unread.step}",
                expected="finite loss terms and gradients",
                actual=f"not finite: {wrong}; {shown}",
                hint="checkpoints are not affected; check the capture with `partnerface inspect`",
            )
        if self._left_out & (self._left_out - 1) == 0:  # report 1, 2, 4, 8, ... only
            self._say(f"Step {unread.step} is left out ({self._left_out} so far). Not finite: {wrong}; {shown}")


def _describe(frames: Sequence[Frame], finite: Sequence[bool]) -> str:
    """Names of the frames whose colours are not finite, or of all frames if all colours are."""
    named = [frame for frame, good in zip(frames, finite, strict=True) if not good] or frames
    return ", ".join(f"{f.image_path.name if f.image_path else 'image'} (timestep {f.timestep})" for f in named)


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
