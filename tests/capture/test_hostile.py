"""Broken and hostile captures: one kind of error, nothing run, nothing opened outside, no hang, little memory.

PARTNERFACE_HOSTILE_CASES sets how many cases each layout gets.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from format_writers.hostile import break_something
from format_writers.layouts import LAYOUTS
from format_writers.truth import flame_like_arrays, make_truth
from partnerface_ns.capture.images import load_picture
from partnerface_ns.capture.load import load_capture
from partnerface_ns.errors import SubjectError

NUM_CASES = int(os.environ.get("PARTNERFACE_HOSTILE_CASES", "100"))
CPU_SECONDS, MEMORY_MB = 20, 400
_opened: list[str] | None = None


def _note_opened(event: str, arguments: tuple) -> None:
    if _opened is not None and event in ("open", "os.system", "subprocess.Popen", "os.exec"):
        _opened.append(f"{event} {arguments[0]!s}")


sys.addaudithook(_note_opened)


class TookTooLong(BaseException):
    """Not an Exception, so that no reader can take it for a broken file."""


def _stop(*_: object) -> None:
    raise TookTooLong


@contextmanager
def watched() -> Iterator[list[str]]:
    """What is opened or run meanwhile; processor time is bounded."""
    global _opened
    _opened = []
    before = signal.signal(signal.SIGVTALRM, _stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    try:
        yield _opened
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        _opened = None


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture(scope="module")
def head_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("head") / "flame.npz"
    np.savez(path, **flame_like_arrays())
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_whatever_is_broken_there_is_one_kind_of_error(layout, tmp_path, head_path):
    root = LAYOUTS[layout](tmp_path / "subject", make_truth(6))
    secret = tmp_path / "outside" / "secret.png"
    secret.parent.mkdir()
    secret.write_bytes(next(path for path in root.rglob("*") if path.is_file()).read_bytes())
    marker = tmp_path / "made-by-a-file"
    cases = NUM_CASES if layout != "insta-meshes" else max(1, NUM_CASES // 10)
    load_capture(root, head_model=head_path)
    refused, memory = 0, memory_mb()
    for case in range(cases):
        rng = np.random.default_rng([case, len(layout)])
        undo = break_something(root, secret, str(marker), rng)
        with watched() as opened:
            try:
                capture = load_capture(root, head_model=head_path)
                for frame in capture.frames:
                    load_picture(frame, (1.0, 1.0, 1.0))
            except SubjectError as error:
                refused += 1
                assert len(str(error)) < 2000, "a message is for people"
        undo()
        bad = [line for line in opened if not line.startswith("open ") or str(secret.parent) in line or "/etc/" in line]
        assert not bad and not marker.exists(), (case, bad)
    assert memory_mb() - memory < MEMORY_MB
    assert refused > cases / 4, "the cases are mean enough"
    load_capture(root, head_model=head_path)
