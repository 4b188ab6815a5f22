"""Work on a GPU, recorded once and played for other inputs.

An avatar's work is thousands of small kernels, and starting them one by one takes ten times as long as running them. As
one CUDA graph they start at once. A recording works on the same memory and the same shapes every time: inputs are
copied in, and nothing in them is counted (`geometry/rows.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

_WARM_UP = 3
"""Inputs that are worked on without a recording, so that libraries set up what they set up once."""
Inputs, Outputs = TypeVar("Inputs"), TypeVar("Outputs")


class CapturedWork(Generic[Inputs, Outputs]):
    """A function of tensors on a GPU, recorded after a few calls.

    Inputs are tensors, or tuples and dataclasses of such, always of the same shapes. Outputs are valid until the next
    call.
    """

    def __init__(self, work: Callable[[Inputs], Outputs]) -> None:
        """
        Args:
            work: the function; its kernels must depend on the shapes of its inputs alone.
        """
        self._work, self._num_warm = work, 0
        self._aside: torch.cuda.Stream | None = None
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, given: Inputs) -> Outputs:
        """The work's outputs."""
        with torch.cuda.device(next(_tensors(given)).device):
            return self._on_its_device(given)

    def _on_its_device(self, given: Inputs) -> Outputs:
        if self._num_warm < _WARM_UP:
            return self._warmed_up(given)
        if self._graph is None:
            return self._recorded(given)
        for recorded, now in zip(_tensors(self._inputs), _tensors(given), strict=True):
            recorded.copy_(now)
        self._graph.replay()
        return self._outputs

    def _warmed_up(self, given: Inputs) -> Outputs:
        self._num_warm += 1
        aside = self._aside = self._aside or torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            found = self._work(given)
        torch.cuda.current_stream().wait_stream(aside)
        return found

    def _recorded(self, given: Inputs) -> Outputs:
        self._inputs, graph = _cloned(given), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._aside, capture_error_mode="thread_local"):
            self._outputs = self._work(self._inputs)
        self._graph = graph
        graph.replay()
        return self._outputs


def _cloned(values: Any) -> Any:
    """Nested inputs in memory of their own."""
    if isinstance(values, Tensor):
        return values.clone()
    if is_dataclass(values):
        return type(values)(**{f.name: _cloned(getattr(values, f.name)) for f in fields(values)})  # type: ignore[operator]
    if isinstance(values, tuple):
        parts = [_cloned(value) for value in values]
        return type(values)(*parts) if hasattr(values, "_fields") else tuple(parts)
    return values


def _tensors(values: object) -> Iterator[Tensor]:
    """All tensors of nested inputs, in order."""
    if isinstance(values, Tensor):
        yield values
    elif is_dataclass(values):
        for f in fields(values):
            yield from _tensors(getattr(values, f.name))
    elif isinstance(values, tuple):
        for value in values:
            yield from _tensors(value)
