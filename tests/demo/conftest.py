"""One synthetic person, shared by all tests."""

from __future__ import annotations

import pytest

from partnerface_ns.demo.subject import DemoSubject

FRAMES, SIZE = 40, 128


@pytest.fixture(scope="session")
def person() -> DemoSubject:
    return DemoSubject.create(seed=0, num_frames=FRAMES, size=SIZE)
