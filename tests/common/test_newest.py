"""The newest item between two threads."""

from __future__ import annotations

from threading import Thread

import pytest

from partnerface_ns.common.newest import Newest


def test_an_item_that_was_not_taken_is_replaced():
    place = Newest[int]()
    for item in range(5):
        place.put(item)
    assert place.take() == 4
    with pytest.raises(TimeoutError):
        place.take(0.01)


def test_the_last_item_comes_before_the_end():
    place = Newest[int]()
    place.put(7)
    place.close()
    assert place.take() == 7 and place.take() is None and place.take() is None


def test_a_waiting_taker_gets_the_item_or_the_error():
    place, taken = Newest[int](), []
    thread = Thread(target=lambda: taken.append(place.take()))
    thread.start()
    place.put(3)
    thread.join(5)
    assert taken == [3]
    place.put(4)
    place.close(ValueError("the source fails"))
    place.close()
    with pytest.raises(ValueError, match="the source fails"):
        place.take()
