"""Timing of work on a device."""

from __future__ import annotations

import time

import torch


def synchronized_seconds(device: str | torch.device) -> float:
    """Seconds of a monotonic clock after the device has finished its queued work. A GPU works asynchronously."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
