"""Which moments are held out for testing, where a layout does not say it."""

from __future__ import annotations

import math
from collections.abc import Mapping

TRAIN_SHARE = 0.7
"""Share of the moments that train, from the first on; as VHAP splits."""
HELD_OUT = 350
"""WarpFrames at the end that INSTA and SplattingAvatar hold out, where there are at least three times as many."""


def split_at_share(num_frames: int) -> Mapping[str, tuple[int, ...]]:
    """Train on the first 70% of the frames, test on the rest."""
    return _split(num_frames, min(math.ceil(TRAIN_SHARE * num_frames), num_frames - 1))


def split_off_last(num_frames: int) -> Mapping[str, tuple[int, ...]]:
    """Test on the last 350 frames; short captures are split at 70%."""
    return _split(num_frames, num_frames - HELD_OUT) if num_frames >= 3 * HELD_OUT else split_at_share(num_frames)


def _split(num: int, num_train: int) -> Mapping[str, tuple[int, ...]]:
    return {"train": tuple(range(num_train)), "val": (), "test": tuple(range(num_train, num))}
