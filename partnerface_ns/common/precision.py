"""Precision of networks: bfloat16 where the hardware multiplies it faster than float32, else float32.

A CPU without bfloat16 instructions emulates it, which takes more than twenty times as long as float32. A CPU with
AVX512-BF16 alone multiplies the small matrices of these networks half as fast in bfloat16 as in float32 ("Precision on
a CPU" in docs/experiments.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")


def autocast_bfloat16(device: torch.device, wanted: bool) -> torch.autocast:
    """Autocast to bfloat16 if it is wanted and fast on the device; else no autocast."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and has_fast_bfloat16(device))


@contextmanager
def ignore_outer_autocast() -> Iterator[None]:
    """Disable a caller's autocast, so that only `autocast_bfloat16` decides."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


@cache
def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether a GPU, or an x86 CPU on Linux, multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return CPU_INFO.is_file() and has_amx_flag(CPU_INFO.read_text())


def has_amx_flag(cpuinfo: str) -> bool:
    """Whether the text of /proc/cpuinfo lists the matrix instructions for bfloat16 (AMX)."""
    return re.search(r"\bamx_bf16\b", cpuinfo) is not None
