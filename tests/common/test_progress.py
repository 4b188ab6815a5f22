"""Progress lines in a log."""

from __future__ import annotations

import partnerface_ns.common.progress
from partnerface_ns.common.progress import progress


def test_a_log_gets_a_progress_line_at_intervals(monkeypatch, capsys):
    monkeypatch.setattr(partnerface_ns.common.progress.time, "monotonic", iter(range(0, 1000, 10)).__next__)
    assert list(progress(range(5), "Working")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err.splitlines() == ["Working: 1 of 5, 80 s left", "Working: 3 of 5, 27 s left"]


def test_fast_loops_print_nothing(capsys):
    assert list(progress(iter("abc"), "Working")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
