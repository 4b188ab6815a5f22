"""CUDA graphs of functions: captured once, then replayed for other inputs.

An avatar launches thousands of small kernels. Launching them one by one takes many times as long as running them
(docs/experiments.md, "On a GPU"); a CUDA graph launches all of them at once. A graph always works on the same memory
and shapes. Inputs are copied into that memory, and no shape may depend on values (`geometry/rows.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

_WARM_UP = 3
"""Calls before the capture, in which libraries initialise."""
Inputs = TypeVar("Inputs")
Outputs = TypeVar("Outputs")


class CapturedWork(Generic[Inputs, Outputs]):
    """A function of tensors on a GPU that is captured after a few calls.

    Inputs are nested tuples and dataclasses of tensors, always of the same shapes. Outputs are valid until the next
    call.
    """

    def __init__(self, work: Callable[[Inputs], Outputs]) -> None:
        """
        Args:
            work: the function. Its kernels may depend on the shapes of its inputs, not on values.
        """
        self._work, self._num_warm = work, 0
        self._stream: torch.cuda.Stream | None = None
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, inputs: Inputs) -> Outputs:
        """Outputs for these inputs."""
        with torch.cuda.device(next(_tensors(inputs)).device):
            if self._num_warm < _WARM_UP:
                return self._warm_up(inputs)
            if self._graph is None:
                return self._capture(inputs)
            return self._replay(self._graph, inputs)

    def _warm_up(self, inputs: Inputs) -> Outputs:
        self._num_warm += 1
        stream = self._stream = self._stream or torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            outputs = self._work(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return outputs

    def _capture(self, inputs: Inputs) -> Outputs:
        self._inputs, graph = _clone(inputs), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            self._outputs = self._work(self._inputs)
        self._graph = graph
        graph.replay()
        return self._outputs

    def _replay(self, graph: torch.cuda.CUDAGraph, inputs: Inputs) -> Outputs:
        for captured, current in zip(_tensors(self._inputs), _tensors(inputs), strict=True):
            captured.copy_(current)
        graph.replay()
        return self._outputs


def _clone(values: Any) -> Any:
    """Copy nested inputs to new memory."""
    if isinstance(values, Tensor):
        return values.clone()
    if is_dataclass(values) and not isinstance(values, type):
        return replace(values, **{f.name: _clone(getattr(values, f.name)) for f in fields(values)})
    if isinstance(values, tuple):
        parts = [_clone(value) for value in values]
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
