"""A progress bar for loops over a user's files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def progress(items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a bar on a terminal's error output that goes away at the end; nothing where none watches."""
    console = Console(stderr=True)
    yield from track(items, label, total=total, console=console, transient=True) if console.is_terminal else items
