"""A place for the newest item between two threads: a new item replaces one that was not taken."""

from __future__ import annotations

from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Newest(Generic[Item]):
    """Holds at most one item, so a slow taker skips items and never falls behind."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._items: list[Item] = []
        self._is_closed = False
        self._error: BaseException | None = None

    def put(self, item: Item) -> None:
        """Store an item in place of the last one."""
        with self._changed:
            self._items = [item]
            self._changed.notify_all()

    def take(self, patience: float | None = None) -> Item | None:
        """Wait for an item that was not taken yet; None if there are no more.

        Args:
            patience: the longest wait in seconds; None waits without end.

        Raises:
            TimeoutError: no item came in this time.
            Exception: the error with which the place was closed.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._items or self._is_closed, patience):
                raise TimeoutError
            if self._error is not None:
                raise self._error
            return self._items.pop() if self._items else None

    def close(self, error: BaseException | None = None) -> None:
        """End the sequence of items. An item that was not taken yet is still returned, unless there is an error."""
        with self._changed:
            self._is_closed, self._error = True, self._error or error
            self._changed.notify_all()
