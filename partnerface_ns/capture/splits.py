"""Default train and test splits for layouts without splits."""

from __future__ import annotations

import math
from collections.abc import Mapping

TRAIN_SHARE = 0.7
"""Share of the frames for training, from the start, as in VHAP."""
HELD_OUT = 350
"""Number of test frames at the end in INSTA and SplattingAvatar. It is used for captures three times as long."""


def split_at_share(num_frames: int) -> Mapping[str, tuple[int, ...]]:
    """Train on the first 70% of the frames, test on the rest."""
    return _split(num_frames, min(math.ceil(TRAIN_SHARE * num_frames), num_frames - 1))


def split_off_last(num_frames: int) -> Mapping[str, tuple[int, ...]]:
    """Test on the last 350 frames. Short captures are split at 70%."""
    return _split(num_frames, num_frames - HELD_OUT) if num_frames >= 3 * HELD_OUT else split_at_share(num_frames)


def _split(num: int, num_train: int) -> Mapping[str, tuple[int, ...]]:
    return {"train": tuple(range(num_train)), "val": (), "test": tuple(range(num_train, num))}
