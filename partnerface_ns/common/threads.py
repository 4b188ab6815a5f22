"""Work on many things at once, on threads.

Torch shares the work of one operation among threads, which brings little where operations are small: two threads make a
image in three quarters of the time. Two images at once, each on a thread of its own, take half.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Item, Result = TypeVar("Item"), TypeVar("Result")


def map_threaded(work: Callable[[Item], Result], items: Iterable[Item], num_workers: int) -> Iterator[Result]:
    """What the work makes of each item, in order, worked out a few ahead of what is asked for.

    The first error of the work ends it, as does closing the iterator: what is being worked on is finished, no more is
    begun.

    Args:
        work: called in several threads at once; its operations in torch share the threads of the caller's evenly.
        items: asked for one by one.
        num_workers: how many are worked on at once; one works in the caller's own thread.
    """
    if num_workers == 1:
        yield from map(work, items)
        return
    num_threads = torch.get_num_threads()
    share = max(1, num_threads // num_workers)
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(num_workers, initializer=torch.set_num_threads, initargs=(share,))
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * num_workers:
                waiting[0].result()  # what is waited for is in `waiting` until it is there
                yield waiting.popleft().result()
        while waiting:
            waiting[0].result()
            yield waiting.popleft().result()
    finally:
        # A second Ctrl-C may end a wait for work, but must not end one for threads: Python would then take them for
        # ended and leave while they run.
        pool.shutdown(wait=False, cancel_futures=True)
        try:
            wait(begun for begun in waiting if not begun.cancelled())
            pool.shutdown()
        finally:
            # A thread's own number is also that of threads that begin after it.
            torch.set_num_threads(num_threads)
