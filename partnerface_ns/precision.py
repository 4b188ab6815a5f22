"""In which precision networks compute: in bfloat16 where the hardware multiplies it, which takes less time and memory
than float32. Elsewhere PyTorch takes every number apart, and products take up to thirty times as long.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import torch


def in_bfloat16(device: torch.device, wanted: bool) -> torch.autocast:
    """Networks within compute in bfloat16, if that is wanted and pays on the device; else nothing changes."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and multiplies_bfloat16(device.type))


@cache
def multiplies_bfloat16(device_type: str) -> bool:
    """Whether hardware of this kind multiplies bfloat16 by itself: a GPU, or an x86 CPU on Linux."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    listed = Path("/proc/cpuinfo")
    return listed.is_file() and says_bfloat16(listed.read_text())


def says_bfloat16(cpuinfo: str) -> bool:
    """Whether a CPU's flags name instructions that multiply bfloat16."""
    return re.search(r"\b(avx512_bf16|amx_bf16)\b", cpuinfo) is not None
