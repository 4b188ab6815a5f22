"""A progress bar for loops over a user's files."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterable, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")
_LOG_INTERVAL = 15.0
"""Seconds between two lines of progress in a log."""


def progress(items: Iterable[Item], label: str, total: int | None = None) -> Generator[Item, None, None]:
    """Iterate over items and show progress on stderr: a temporary bar on a terminal, else a line every 15 seconds."""
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(items, label, total=total, console=console, transient=True)
    else:
        yield from _log_progress(
            items, label, total if total is not None or not isinstance(items, Sized) else len(items)
        )


def _log_progress(items: Iterable[Item], label: str, total: int | None) -> Generator[Item, None, None]:
    start = last_line = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - last_line > _LOG_INTERVAL:
            last_line = now
            left = "" if total is None else f" of {total}, {(now - start) * (total - done) / done:.0f} s left"
            print(f"{label}: {done}{left}", file=sys.stderr, flush=True)
        yield item
