"""When networks compute in bfloat16."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from partnerface_ns.common import precision
from partnerface_ns.common.precision import autocast_bfloat16, has_amx_flag, ignore_outer_autocast

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fma avx2 vaes rdpid", False),
        ("avx2 avx512f avx512_vnni", False),
        ("avx512f avx512_bf16 vaes", False),
        ("amx_bf16 avx512_fp16 amx_tile", True),
    ],
)
def test_cpu_flags_tell_whether_bfloat16_is_fast(flags, expected):
    assert (
        has_amx_flag(f"processor\t: 0\nmodel name\t: avx512 bf16\nflags\t\t: fpu {flags}\nbogomips\t: 4890.80\n")
        == expected
    )


@pytest.mark.parametrize(("wanted", "has"), [(True, True), (True, False), (False, True)])
def test_bfloat16_is_used_if_wanted_and_fast(wanted, has, monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: has)
    a = torch.ones(2, 2)
    with autocast_bfloat16(a.device, wanted):
        assert (a @ a).dtype == (torch.bfloat16 if wanted and has else torch.float32)


def test_cpu_support_is_read_from_cpuinfo(monkeypatch, tmp_path):
    ask = precision.has_fast_bfloat16.__wrapped__
    listed = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "CPU_INFO", listed)
    assert not ask(CPU), "no list, no bfloat16"
    listed.write_text("flags : amx_bf16\n")
    assert ask(CPU)
    listed.write_text("flags : avx2\n")
    assert not ask(CPU)


@pytest.mark.parametrize("native", [True, False])
def test_the_chosen_gpu_counts_and_emulation_does_not(native, monkeypatch):
    current = []

    @contextmanager
    def make_current(device):
        current.append(device)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", make_current)
    asked = lambda including_emulation: current[0].index == 1 and (native or including_emulation)  # noqa: E731
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", asked)
    assert precision.has_fast_bfloat16.__wrapped__(torch.device("cuda:1")) == native


def test_an_outer_autocast_is_ignored(monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: True)
    a = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        with ignore_outer_autocast():
            assert (a @ a).dtype == torch.float32
            with autocast_bfloat16(CPU, True):
                assert (a @ a).dtype == torch.bfloat16
            assert (a @ a).dtype == torch.float32
        assert (a @ a).dtype == torch.bfloat16, "the caller's own work is the caller's"
