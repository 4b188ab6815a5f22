"""A progress bar for loops over a user's files."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterable, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")
_BETWEEN_LINES = 15.0
"""Seconds between two lines of progress where no terminal shows a bar."""


def progress(items: Iterable[Item], label: str, total: int | None = None) -> Generator[Item, None, None]:
    """The items, with a bar on a terminal's error output that goes away at the end; in a log a line now and then."""
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(items, label, total=total, console=console, transient=True)
    else:
        yield from _logged(items, label, total if total is not None or not isinstance(items, Sized) else len(items))


def _logged(items: Iterable[Item], label: str, total: int | None) -> Generator[Item, None, None]:
    began = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - said > _BETWEEN_LINES:
            said = now
            left = "" if total is None else f" of {total}, {(now - began) * (total - done) / done:.0f} s left"
            print(f"{label}: {done}{left}", file=sys.stderr, flush=True)
        yield item
