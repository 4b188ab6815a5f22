"""Time that work takes on a device."""

from __future__ import annotations

import time

import torch


def synchronized_seconds(device: str | torch.device) -> float:
    """The clock's seconds, from some point on, once a device has done all that it was given: a GPU works on behind."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
