"""Parallel work on threads, and processes that end with their parent."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from partnerface_ns.common.threads import map_threaded


@pytest.fixture(autouse=True, params=[1, 4])
def num_threads(request):
    """The caller's number of torch threads, which must not change."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    found: list[int] = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert torch.get_num_threads() == request.param and found == [request.param]
    torch.set_num_threads(before)


def sooner_the_later(item: int) -> int:
    time.sleep(0.02 * (3 - item % 4))
    return 10 * item


@pytest.mark.parametrize("num_workers", [1, 3])
def test_results_come_in_the_order_of_the_items(num_workers):
    assert list(map_threaded(sooner_the_later, range(9), num_workers)) == [10 * item for item in range(9)]
    assert list(map_threaded(sooner_the_later, (), num_workers)) == []


def test_work_runs_on_all_workers_at_once():
    together = threading.Barrier(3)  # breaks where fewer than three wait for each other
    assert list(map_threaded(lambda item: together.wait(5) * 0 + item, range(6), 3)) == list(range(6))


def test_workers_share_torchs_threads(num_threads):
    counts = set(map_threaded(lambda _: torch.get_num_threads(), range(8), 2))
    assert counts == {max(1, num_threads // 2)}


@pytest.mark.parametrize(("num_workers", "ahead"), [(1, 0), (2, 4)])
def test_items_are_consumed_only_a_few_ahead(num_workers, ahead):
    asked: list[int] = []
    results = map_threaded(sooner_the_later, (asked.append(item) or item for item in range(100)), num_workers)
    for taken in range(1, 4):
        next(results)
        assert len(asked) == taken + ahead
    results.close()


@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_ends_the_work(num_workers, error):
    begun: list[int] = []

    def failing(item: int) -> int:
        begun.append(item)
        if item == 4:
            raise error
        return item

    taken = []
    threads = threading.active_count()
    with pytest.raises(error):
        for result in map_threaded(failing, range(1000), num_workers):
            taken.append(result)
    assert taken == [0, 1, 2, 3] and max(begun) < 20 and threading.active_count() == threads


def test_closing_ends_the_work():
    begun: list[int] = []
    threads = threading.active_count()
    results = map_threaded(lambda item: begun.append(item), range(1000), 2)
    next(results)
    results.close()
    assert len(begun) < 10 and threading.active_count() == threads


def test_a_second_interrupt_ends_the_process_cleanly():
    code = """
import os, signal, threading, time
import torch
from partnerface_ns.common.threads import map_threaded

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has background jobs ignore interrupts

def interrupt():
    for _ in range(2):
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
for _ in map_threaded(lambda _: [time.sleep(0.1) or torch.ones(9) for _ in range(20)], range(9), 2):
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "KeyboardInterrupt" in done.stderr and "terminate called" not in done.stderr
    assert done.returncode in (1, 130, -signal.SIGINT)


_POOL = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from partnerface_ns.common.threads import end_with_parent

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    time.sleep(600)
"""


def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "pool.py"
    script.write_text(_POOL)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 60
    while _is_running(worker):
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.1)


def _is_running(process: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
