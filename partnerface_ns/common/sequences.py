"""Choosing items of a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def pick_evenly(items: Sequence[Item], num: int) -> list[Item]:
    """At most `num` items at even distances, the first and the last among them; of one item, the middle."""
    if len(items) <= num:
        return list(items)
    if num == 1:
        return [items[len(items) // 2]]
    return [items[i] for i in np.linspace(0, len(items) - 1, num).round().astype(int)]
