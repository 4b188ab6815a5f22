"""A progress bar for loops over a user's files. A command of several stages listens instead and shows one bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")
LOG_INTERVAL = 15.0
"""Seconds between two lines of progress in a log."""
Listener = Callable[[str, float], None]
"""Receives the label of a loop and the share of it that is done, 0 to 1."""
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listen_to_progress(listener: Listener) -> Iterator[None]:
    """Send the progress of all loops to a listener; they draw no bar of their own."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report_progress(label: str, done: float) -> None:
    """Tell the listener, if there is one, which share of a loop is done, 0 to 1."""
    listener = _listener.get()
    if listener is not None:
        listener(label, done)


def progress(items: Iterable[Item], label: str, total: int | None = None) -> Generator[Item, None, None]:
    """Iterate over items and show progress on stderr: a temporary bar on a terminal, else a line every 15 seconds.

    A listener receives the progress in place of the bar.
    """
    console = Console(stderr=True)
    num = total if total is not None or not isinstance(items, Sized) else len(items)
    if _listener.get() is not None:
        yield from _report_all(items, label, num)
    elif console.is_terminal:
        yield from track(items, label, total=total, console=console, transient=True)
    else:
        yield from _log_progress(items, label, num)


def _report_all(items: Iterable[Item], label: str, total: int | None) -> Generator[Item, None, None]:
    for done, item in enumerate(items):
        report_progress(label, min(1.0, done / total) if total else 0.0)
        yield item
    report_progress(label, 1.0)


def _log_progress(items: Iterable[Item], label: str, total: int | None) -> Generator[Item, None, None]:
    start = last_line = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - last_line > LOG_INTERVAL:
            last_line = now
            left = "" if total is None else f" of {total}, {(now - start) * (total - done) / done:.0f} s left"
            print(f"{label}: {done}{left}", file=sys.stderr, flush=True)
        yield item
