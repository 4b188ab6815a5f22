"""Precision of networks: bfloat16 where the hardware supports it, else float32.

Without hardware support PyTorch emulates bfloat16, which takes more than twenty times as long as float32.
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
    """Autocast to bfloat16 if it is wanted and the device supports it; else no autocast."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and supports_bfloat16(device))


@contextmanager
def ignore_outer_autocast() -> Iterator[None]:
    """Disable a caller's autocast, so that only `autocast_bfloat16` decides."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


@cache
def supports_bfloat16(device: torch.device) -> bool:
    """Whether a GPU, or an x86 CPU on Linux, multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return CPU_INFO.is_file() and has_bfloat16_flag(CPU_INFO.read_text())


def has_bfloat16_flag(cpuinfo: str) -> bool:
    """Whether the text of /proc/cpuinfo lists instructions that multiply bfloat16."""
    return re.search(r"\b(avx512_bf16|amx_bf16)\b", cpuinfo) is not None
