"""One synthetic person, made once for all tests."""

from __future__ import annotations

import pytest

from partnerface_ns.demo.subject import Subject

FRAMES, SIZE = 40, 128


@pytest.fixture(scope="session")
def person() -> Subject:
    return Subject.of(seed=0, num_frames=FRAMES, size=SIZE)
