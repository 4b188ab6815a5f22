"""Runs a TensorFlow Lite model with LiteRT on one thread.

A network owns its buffers, so every thread needs its own object. The outputs depend only on the inputs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
        with _without_information():
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
def _without_information() -> Iterator[None]:
    """Leave out lines of LiteRT that begin with INFO, which would break a progress bar. LiteRT has no setting for it.

    Everything else that the process writes to its error output appears at the end of the block.
    """
    with _LOADING, tempfile.TemporaryFile() as written:
        try:
            own = os.dup(_STDERR)
        except OSError:  # the process has no error output
            yield
            return
        try:
            os.dup2(written.fileno(), _STDERR)
            yield
        finally:
            os.dup2(own, _STDERR)
            os.close(own)
            written.seek(0)
            os.write(_STDERR, b"".join(line for line in written if not line.startswith(b"INFO:")))
