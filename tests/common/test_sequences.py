"""Choosing items of a sequence."""

from __future__ import annotations

import pytest

from partnerface_ns.common.sequences import pick_evenly


@pytest.mark.parametrize(
    ("total", "num", "chosen"),
    [(4, 4, [0, 1, 2, 3]), (4, 9, [0, 1, 2, 3]), (9, 3, [0, 4, 8]), (9, 1, [4]), (100, 4, [0, 33, 66, 99])],
)
def test_items_are_at_even_distances(total, num, chosen):
    assert pick_evenly(range(total), num) == chosen
