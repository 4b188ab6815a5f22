"""The machine of a benchmark: its description and its memory use."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import torch

from partnerface_ns.common.precision import has_fast_bfloat16


def describe_machine(device: str | torch.device) -> str:
    """A GPU's name, or a CPU's name, cores and network precision, with the version of PyTorch."""
    device, version = torch.device(device), f"PyTorch {torch.__version__.partition('+')[0]}"
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)}, {version})"
    networks = "bfloat16" if has_fast_bfloat16(device) else "float32"
    return f"cpu ({_cpu_name()}, {os.cpu_count()} cores, {networks}, {version})"


def reset_peak_memory() -> None:
    """Make `peak_memory` count from now on. Without system support it counts from the start of the process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Peak memory of this process in bytes; 0 where the system does not report it."""
    match = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return 1024 * int(match[1]) if match else 0


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    match = re.search(r"^model name\s*:\s*(.+)$", path.read_text(), re.MULTILINE) if path.is_file() else None
    return match[1].strip() if match else "unnamed"
