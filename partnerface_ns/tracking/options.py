"""The options of a tracking run, and their validation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from partnerface_ns.common.errors import InputError
from partnerface_ns.tracking.video.decode.reading import Selection, require_part, require_selection, stated_info

MIN_SIZE, MAX_SIZE = 64, 4096
"""Smallest and largest image side, pixels: the landmark detector needs the minimum, memory sets the maximum."""
FOCAL_RANGE = (0.3, 10.0)
"""Accepted focal lengths, in longer sides of the video's frame."""


@dataclass(frozen=True)
class TrackingOptions:
    """How to track a video."""

    size: int = 512
    """Side of the square images, pixels."""
    selection: Selection = field(default_factory=Selection)
    """Which frames of the video to use."""
    focal_length: float | None = None
    """Known focal length, in longer sides of the video's frame. None estimates it around a typical value."""
    matting: bool = True
    """Whether to cut the person out of the background."""
    photometric: bool = True
    """Whether to align the images with each other after the fit to landmarks and outlines."""
    device: str = "cpu"
    """Torch device of the fit."""


def require_options(options: TrackingOptions, video: Path) -> None:
    """Check the values of all options, then open the video and check that it contains the selected part.

    Raises:
        InputError: an option is out of range; the error names the option and its range. Or the video cannot be opened.
    """
    if not MIN_SIZE <= options.size <= MAX_SIZE:
        expected = f"{MIN_SIZE} to {MAX_SIZE} pixels"
        raise InputError("--size", "out of range", expected=expected, actual=options.size)
    require_selection(options.selection, video)
    if options.focal_length is not None:
        _require_focal_length(options.focal_length, video)
    require_part(options.selection, video)


def _require_focal_length(focal_length: float, video: Path) -> None:
    low, high = FOCAL_RANGE
    if low <= focal_length <= high:
        return
    longer_side = stated_info(video).longer_side
    hint = None
    if longer_side is not None and low <= focal_length / longer_side <= high:
        hint = f"for {focal_length:g} pixels give {focal_length / longer_side:.3g}"
    raise InputError(
        "--focal-length",
        "out of range",
        expected=f"{low:g} to {high:g}, in longer sides of the video's frame",
        actual=f"{focal_length:g}",
        hint=hint,
    )
