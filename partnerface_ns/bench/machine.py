"""What a benchmark ran on, in words."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch


def machine(device: str) -> str:
    """A GPU's name, or a CPU's with its cores; with PyTorch's version."""
    version = f"PyTorch {torch.__version__.partition('+')[0]}"
    if torch.device(device).type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)}, {version})"
    return f"cpu ({_cpu_name()}, {os.cpu_count()} cores, {version})"


def _cpu_name() -> str:
    listed = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", listed.read_text(), re.MULTILINE) if listed.is_file() else None
    return found[1].strip() if found else "unnamed"
