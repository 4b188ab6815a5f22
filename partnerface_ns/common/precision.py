"""In which precision networks compute: in bfloat16 where the hardware multiplies it. Elsewhere PyTorch takes every
number apart, and products take more than twenty times as long as in float32.
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
    """Networks within compute in bfloat16, if that is wanted and the device multiplies it; else in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and supports_bfloat16(device))


@contextmanager
def ignore_outer_autocast() -> Iterator[None]:
    """Within it a caller's autocast changes nothing: `autocast_bfloat16` alone decides."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


@cache
def supports_bfloat16(device: torch.device) -> bool:
    """Whether a GPU, or an x86 CPU on Linux, multiplies bfloat16 by itself."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return CPU_INFO.is_file() and has_bfloat16_flag(CPU_INFO.read_text())


def has_bfloat16_flag(cpuinfo: str) -> bool:
    """Whether a CPU's flags name instructions that multiply bfloat16."""
    return re.search(r"\b(avx512_bf16|amx_bf16)\b", cpuinfo) is not None
