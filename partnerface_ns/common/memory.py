"""Memory that this process can still use."""

from __future__ import annotations

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
"""Files of a container's limit and use in bytes: version 2 of control groups, and version 1 below `memory/`."""


def available_bytes() -> float:
    """Bytes of memory that the machine and this process's container have left; infinity if the system does not tell."""
    free = [_of_machine(), *(_read(limit) - _read(used, 0.0) for limit, used in _LIMITS)]
    return max(0.0, min(free))


def _of_machine() -> float:
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        return 1024.0 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return float("inf")


def _read(name: str, otherwise: float = float("inf")) -> float:
    """A number of the control group; `max` and a missing file are no limit."""
    try:
        return float(int((_CGROUP / name).read_text()))
    except (OSError, ValueError):
        return otherwise
