"""Separation of the splits: no image is in two splits, and validation is held out from training.

The test split never changes, so that its figures stay comparable. Images of the test split are removed from other
splits. Two images are the same if their files have the same content, or if one camera took them at the same timestep.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from partnerface_ns.capture.capture import Capture
from partnerface_ns.common.errors import InputError

FEW_TIMESTEPS = 20
"""Training timesteps below which there is a warning."""
VALIDATION_SHARE, MAX_VALIDATION = 0.05, 20
"""Share and largest number of training timesteps held out for validation if a capture has no validation split."""
_PROBE_BYTES = 4096
"""Bytes in the middle of a file that are compared before the whole file."""


def separate_splits(capture: Capture) -> Capture:
    """The capture with each image in at most one split; test wins over validation, validation over training.

    Raises:
        InputError: all training images are test images.
    """
    taken = set(capture.splits["test"])
    copies = _copies(capture)
    splits, warnings, notes = dict(capture.splits), list(capture.warnings), list(capture.notes)
    for split in ("val", "train"):
        groups = {copies[i] for i in taken} - {None}
        doubled = [i for i in splits[split] if copies[i] in groups]
        splits[split] = tuple(i for i in splits[split] if copies[i] not in groups)
        taken.update(splits[split])
        if doubled and split == "train":
            warnings.append(_training_warning(capture, doubled, copies))
        elif doubled:
            notes.append(f"{len(doubled)} of {len(capture.splits['val'])} validation images are test images: left out")
    if capture.splits["train"] and not splits["train"]:
        raise InputError(
            capture.root,
            "all training images are also test or validation images",
            expected="different images in each split",
            actual=f"{len(capture.splits['train'])} images, the first is {capture.frames_of('train')[0].name}",
        )
    return replace(capture, splits=splits, warnings=tuple(warnings), notes=tuple(notes))


def _training_warning(capture: Capture, doubled: Sequence[int], copies: Sequence[Path | None]) -> str:
    first = doubled[0]
    others = [i for split in ("test", "val") for i in capture.splits[split] if copies[i] == copies[first]]
    name, other = capture.frames[first].name, capture.frames[others[0]].name
    same = name if name == other else f"{name} is {other}"
    count = f"{len(doubled)} of {len(capture.splits['train'])} training images are held out for evaluation too"
    return f"{count} (the first: {same}): they are not trained on"


def _copies(capture: Capture) -> list[Path | None]:
    """For each frame the first file that shows the same; None without an image."""
    paths = {frame.image_path for frame in capture.frames if frame.image_path is not None}
    first = {path: path for path in paths}
    for group in _same_files(paths):
        first.update(dict.fromkeys(group, group[0]))
    shown: dict[tuple[int, int], Path] = {}
    for frame in capture.frames:  # a timestep that was saved twice, for example as PNG and JPEG
        if frame.image_path is not None:
            shown.setdefault((frame.timestep, frame.camera_index), first[frame.image_path])
    return [frame.image_path and shown[frame.timestep, frame.camera_index] for frame in capture.frames]


def _same_files(paths: Iterable[Path]) -> list[list[Path]]:
    """Groups of files with the same content, compared by size, then by their middle, then by a hash."""
    groups = [sorted(paths)]
    for key in (_size, _probe, _digest):
        groups = [same for group in groups for same in _group_by(group, key)]
    return groups


def _group_by(paths: Sequence[Path], key: Callable[[Path], Hashable]) -> list[list[Path]]:
    """Groups of two or more with the same key."""
    groups: dict[Hashable, list[Path]] = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return [group for group in groups.values() if len(group) > 1]


def _size(path: Path) -> int:
    return path.stat().st_size


def _probe(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, _size(path) - _PROBE_BYTES) // 2)
        return file.read(_PROBE_BYTES)


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def training_warning(capture: Capture) -> str | None:
    """A warning if there are few training timesteps; else None."""
    count = len({frame.timestep for frame in capture.frames_of("train")})
    return None if count >= FEW_TIMESTEPS else f"few training timesteps ({count}): an avatar needs hundreds"


def require_trainable(capture: Capture) -> None:
    """Check that a capture has enough frames to train on.

    Raises:
        InputError: there are fewer than two different training timesteps.
    """
    steps = {frame.timestep for frame in capture.frames_of("train")}
    if len(steps) < 2:
        held_out = len({frame.timestep for frame in capture.frames_of("val")})
        raise InputError(
            capture.root,
            "an avatar cannot be learned from so few frames",
            key="train",
            expected="two or more training timesteps; hundreds for a good avatar",
            actual=f"{len(steps)}, and {held_out} for validation" if held_out else len(steps),
        )


def hold_out_validation(capture: Capture) -> Capture:
    """The capture with a validation split. If it has none, its last training timesteps become one.

    They are 5% of the training timesteps, at most 20, and are removed from training.
    """
    if capture.splits["val"]:
        return capture
    steps = sorted({frame.timestep for frame in capture.frames_of("train")})
    count = min(MAX_VALIDATION, math.ceil(VALIDATION_SHARE * len(steps)), len(steps) - 1)
    if count < 1:
        return capture
    first = steps[-count]
    train, val = [], []
    for i in capture.splits["train"]:
        (val if capture.frames[i].timestep >= first else train).append(i)
    note = f"no validation split: the last {count} of {len(steps)} training timesteps are held out for it"
    splits = {**capture.splits, "train": tuple(train), "val": tuple(val)}
    return replace(capture, splits=splits, notes=(*capture.notes, note))
