"""The verdict on a capture, and the texts that name its likely fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from partnerface_ns.capture.capture import Frame
from partnerface_ns.capture.names import FixName
from partnerface_ns.capture.overlap import Overlap

NOT_SEEN = "the head is not in the images: the poses of head and camera do not belong together"
NO_ONE = "the masks show no one: all are black (0 and 1 where 0 and 255 are expected?)"
INVERTED = "inverted masks: they are white where the person is not"
ALL_WHITE = "the masks are white everywhere: the background would be learned as part of the person"
HAIR = "the masks are larger than the head: long hair, or another head; only the face can tell"
OTHER_HEAD = "another head: this is not the head model that was tracked with (FLAME version?), or the tracking is bad"
SHUFFLED = "the order of the frames: images and poses are not of the same frames (shuffled, or sorted by name?)"


@dataclass(frozen=True)
class Verdict:
    """Whether the tracked head fits the images, and the likely fault if it does not."""

    fits: bool | None
    """None if the capture cannot be judged."""
    overlap: Overlap | None
    cause: str | None = None
    """The likely fault, for people."""
    fix: FixName | None = None
    """The convention fix that makes the head fit, if there is one."""
    face: float | None = None
    """Distance of brows, eyes and lips from their place in the images, as a share of the face's height; None if it was
    not measured."""
    about: Literal["head", "order", "masks"] = "head"
    """What is at fault: the head's pose or model, the order of the frames, or the masks."""
    bad: tuple[Frame, ...] = ()
    """Single frames whose head does not fit although the others do."""


def describe_crop(scale: float, x: int, y: int) -> str:
    """The fault if one scale and shift (pixels) of the head makes it fit."""
    return (
        "a crop: images were cut or resized after tracking, or the focal length is another; they fit with the head"
        f" {scale:.3g} times as large and moved by ({x}, {y}) pixels"
    )


def describe_shift(frames: int) -> str:
    """The fault if each pose fits the image that is this many frames later."""
    when = "later" if frames > 0 else "earlier"
    return f"the order of the frames: each pose fits the image about {abs(frames)} frames {when}"
