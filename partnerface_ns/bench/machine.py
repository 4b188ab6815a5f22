"""What a benchmark ran on, in words."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import torch

from partnerface_ns.common.precision import supports_bfloat16


def machine(device: str | torch.device) -> str:
    """A GPU's name, or a CPU's with its cores and the precision that its networks take; with PyTorch's version."""
    device, version = torch.device(device), f"PyTorch {torch.__version__.partition('+')[0]}"
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)}, {version})"
    networks = "bfloat16" if supports_bfloat16(device) else "float32"
    return f"cpu ({_cpu_name()}, {os.cpu_count()} cores, {networks}, {version})"


def forget_peak_memory() -> None:
    """Let `peak_memory` count from now on, where the system can; else it counts from the process's beginning."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Bytes that this process had in memory at most."""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _cpu_name() -> str:
    listed = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", listed.read_text(), re.MULTILINE) if listed.is_file() else None
    return found[1].strip() if found else "unnamed"
