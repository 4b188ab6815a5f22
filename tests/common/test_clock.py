"""The clock waits for queued GPU work."""

from __future__ import annotations

import time

import pytest
import torch

from partnerface_ns.common.clock import synchronized_seconds


@pytest.mark.parametrize(("device", "waits"), [("cpu", False), ("cuda", True), (torch.device("cuda:1"), True)])
def test_the_clock_is_read_after_queued_work(device, waits, monkeypatch):
    done = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda which: done.append((which, time.perf_counter())))
    seconds = synchronized_seconds(device)
    assert bool(done) == waits
    if waits:
        ((which, waited),) = done
        assert which == device and seconds >= waited
