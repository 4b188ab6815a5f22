"""Memory that is left, by the machine and by the container."""

from __future__ import annotations

import pytest

from partnerface_ns.common import memory

MEMINFO = "MemTotal:       24684240 kB\nMemAvailable:   2097152 kB\n"


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 2 << 30),
        ({"memory.max": "max\n", "memory.current": "9\n"}, 2 << 30),
        ({"memory.max": f"{3 << 30}\n", "memory.current": f"{2 << 30}\n"}, 1 << 30),
        ({"memory/memory.limit_in_bytes": f"{1 << 30}", "memory/memory.usage_in_bytes": f"{2 << 30}"}, 0),
    ],
)
def test_the_smaller_of_machine_and_container_counts(tmp_path, monkeypatch, limits, expected):
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "memory").mkdir()
    for name, text in limits.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available_bytes() == expected


def test_a_system_that_does_not_tell_has_no_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available_bytes() == float("inf")
