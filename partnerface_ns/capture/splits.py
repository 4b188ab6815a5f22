"""Splits by time: the default of layouts without splits, and those that a user names.

Published results of head avatars are for different splits of a video. A named split replaces the capture's own, so that
results can be compared:

- last: test on the last 30% of the frames, as in VHAP
- interleaved: test on every fifth frame. Its neighbours are trained on, so this measures the fit, not generalisation
- published: test on the last 350 frames, or on the last fifth of captures that are shorter than three times that
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from partnerface_ns.capture.capture import Capture
from partnerface_ns.capture.names import SplitName
from partnerface_ns.common.errors import InputError

TRAIN_SHARE = 0.7
"""Share of the frames for training, from the start, as in VHAP."""
HELD_OUT = 350
"""Number of test frames at the end in INSTA and SplattingAvatar. It is used for captures three times as long."""
EVERY = 5
"""One in so many frames is for testing in the interleaved split; the last so manieth part in a short published one."""


def split_at_share(num_frames: int) -> Mapping[str, tuple[int, ...]]:
    """Train on the first 70% of the frames, test on the rest."""
    return _split(num_frames, min(math.ceil(TRAIN_SHARE * num_frames), num_frames - 1))


def split_off_last(num_frames: int) -> Mapping[str, tuple[int, ...]]:
    """Test on the last 350 frames. Short captures are split at 70%."""
    return _split(num_frames, num_frames - HELD_OUT) if num_frames >= 3 * HELD_OUT else split_at_share(num_frames)


def split_by_time(capture: Capture, name: SplitName) -> Capture:
    """The capture with a named split in place of its own. All cameras of a timestep are in the same split.

    Raises:
        InputError: the capture has fewer than five timesteps.
    """
    steps = sorted({frame.timestep for frame in capture.frames})
    if len(steps) < EVERY:
        raise InputError(capture.root, f"too short for the split {name}", expected=f"{EVERY} frames", actual=len(steps))
    test = {steps[i] for i in _test_of(name, len(steps))}
    of_test = tuple(i for i, frame in enumerate(capture.frames) if frame.timestep in test)
    of_train = tuple(i for i, frame in enumerate(capture.frames) if frame.timestep not in test)
    note = f"split {name}: {len(steps) - len(test)} timesteps for training, {len(test)} for testing"
    return replace(capture, splits={"train": of_train, "val": (), "test": of_test}, notes=(*capture.notes, note))


def _test_of(name: SplitName, num: int) -> range:
    """Positions of the test timesteps among all."""
    if name == "interleaved":
        return range(EVERY // 2, num, EVERY)
    num_test = HELD_OUT if num >= 3 * HELD_OUT else num // EVERY
    return range(len(split_at_share(num)["train"]) if name == "last" else num - num_test, num)


def _split(num: int, num_train: int) -> Mapping[str, tuple[int, ...]]:
    return {"train": tuple(range(num_train)), "val": (), "test": tuple(range(num_train, num))}
