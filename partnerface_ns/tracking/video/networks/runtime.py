"""Runs a TensorFlow Lite model with LiteRT on one thread.

A network owns its buffers, so every thread needs its own object. The outputs depend only on the inputs.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import Float

from partnerface_ns.tracking.video.packages import require

ASSETS = Path(__file__).parent / "assets"
_STDERR = 2
"""File descriptor of the process's error output."""
_LOADING = Lock()


class Network:
    """A model that is called like a function."""

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: a .tflite file with float32 tensors.

        Raises:
            InputError: LiteRT is not installed.
        """
        runtime = require("ai_edge_litert.interpreter")
        with _hide_info_lines():
            self._interpreter = runtime.Interpreter(str(path), num_threads=1)
            self._interpreter.allocate_tensors()
        self._inputs = [tensor["index"] for tensor in self._interpreter.get_input_details()]
        self._outputs = [tensor["index"] for tensor in self._interpreter.get_output_details()]

    def __call__(self, *inputs: Float[np.ndarray, "..."]) -> list[Float[np.ndarray, "..."]]:
        """Return the output tensors without their batch axis.

        Args:
            inputs: the input tensors without their batch axis.
        """
        for index, values in zip(self._inputs, inputs, strict=True):
            self._interpreter.set_tensor(index, np.asarray(values, dtype=np.float32)[None])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index)[0] for index in self._outputs]


@contextmanager
def _hide_info_lines() -> Iterator[None]:
    """Drop LiteRT's lines that begin with INFO, which would break a progress bar. LiteRT has no option for this.

    Other text that this process writes to stderr appears at the end of the block. A process that aborts in the block
    loses it.
    """
    with _LOADING, ExitStack() as stack:
        try:
            written = stack.enter_context(tempfile.TemporaryFile())
            stderr_copy = os.dup(_STDERR)
        except OSError:  # no folder for temporary files, or no stderr
            yield
            return
        try:
            os.dup2(written.fileno(), _STDERR)
            yield
        finally:
            os.dup2(stderr_copy, _STDERR)
            os.close(stderr_copy)
            written.seek(0)
            with suppress(OSError):  # nobody reads stderr
                os.write(_STDERR, re.sub(rb"INFO: [^\n]*\n", b"", written.read()))
