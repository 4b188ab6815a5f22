"""Precision of networks: bfloat16 on GPUs and on CPUs with AMX, float32 on all other CPUs.

A CPU without bfloat16 instructions emulates it, which takes more than twenty times as long as float32. A Xeon with
AVX512-BF16 multiplied the small matrices of these networks at half to two thirds of float32's speed ("Precision on a
CPU" in docs/experiments.md). AMX was not measured.
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
    """Whether a GPU multiplies bfloat16 in hardware, or an x86 CPU on Linux has matrix instructions for it."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return CPU_INFO.is_file() and has_amx_flag(CPU_INFO.read_text())


def has_amx_flag(cpuinfo: str) -> bool:
    """Whether the text of /proc/cpuinfo lists the matrix instructions for bfloat16 (AMX)."""
    return re.search(r"\bamx_bf16\b", cpuinfo) is not None
