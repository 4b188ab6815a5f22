"""Rate and delay of an avatar that is shown live, and the image size that is chosen from the delay."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

_WINDOW = 2.0
"""Seconds that the figures of the page cover."""
_SHARES = (1.0, 0.75, 0.5)
"""Sizes that are tried, in shares of the largest."""
_NUM_DELAYS = 8
"""Images of one size whose median delay decides about the next size."""
_RESERVE = 0.7
"""A larger size is chosen if its expected delay is below this share of the longest delay."""


@dataclass(frozen=True)
class ShownImage:
    """One image that was shown."""

    index: int
    """Index of the arrival."""
    time: float
    """Seconds at which it was finished."""
    delay: float
    """Seconds from its arrival."""
    size: int
    """Longer side of the avatar, pixels."""
    seconds: dict[str, float]
    """Seconds of work by stage."""


@dataclass(frozen=True)
class Pace:
    """Figures of a series of shown images."""

    num_arrived: int
    """Frames that arrived, from the first to the last that was shown."""
    num_shown: int
    fps: float
    """Images per second."""
    delay: float
    """Median delay, seconds."""
    late_delay: float
    """The delay that 95% of the images do not exceed, seconds."""
    sizes: tuple[int, ...]
    """Sizes of the avatar's images, in order of first use."""
    seconds: dict[str, float]
    """Median seconds of work by stage."""

    @staticmethod
    def of(images: list[ShownImage]) -> Pace:
        """The figures of at least one image."""
        delays = [image.delay for image in images]
        duration = images[-1].time - images[0].time
        stages = dict.fromkeys(stage for image in images for stage in image.seconds)
        return Pace(
            num_arrived=images[-1].index - images[0].index + 1,
            num_shown=len(images),
            fps=(len(images) - 1) / duration if duration > 0 else 0.0,
            delay=float(np.median(delays)),
            late_delay=float(np.quantile(delays, 0.95)),
            sizes=tuple(dict.fromkeys(image.size for image in images)),
            seconds={
                stage: float(np.median([i.seconds[stage] for i in images if stage in i.seconds])) for stage in stages
            },
        )

    @property
    def share(self) -> float:
        """Share of the arrived frames that were shown."""
        return self.num_shown / self.num_arrived

    def __str__(self) -> str:
        stages = ", ".join(f"{stage} {1000 * seconds:.0f}" for stage, seconds in self.seconds.items())
        return (
            f"{self.fps:.1f} images/s, {100 * self.share:.0f}% of frames, {1000 * self.delay:.0f} ms late, "
            f"{self.sizes[-1]} px: {stages} ms"
        )

    def summary(self) -> str:
        """The figures of a whole session, in lines of text."""
        stages = ", ".join(f"{stage} {1000 * seconds:.0f} ms" for stage, seconds in self.seconds.items())
        return (
            f"Shown: {self.num_shown} of {self.num_arrived} frames ({100 * self.share:.0f}%), "
            f"{self.fps:.1f} images/s.\n"
            f"Delay: median {1000 * self.delay:.0f} ms, 95% within {1000 * self.late_delay:.0f} ms.\n"
            f"Work for a frame: {stages}. Size: {', '.join(map(str, self.sizes))} pixels."
        )


class LivePace:
    """Collects the shown images."""

    def __init__(self) -> None:
        self.images: list[ShownImage] = []

    def add(self, image: ShownImage) -> None:
        self.images.append(image)

    def restart(self) -> None:
        """Leave out all images so far."""
        self.images.clear()

    def recent(self) -> Pace | None:
        """The figures of the last seconds; None before the first image."""
        return Pace.of([i for i in self.images if i.time > self.images[-1].time - _WINDOW]) if self.images else None

    def total(self) -> Pace | None:
        """The figures of all images; None if none was shown."""
        return Pace.of(self.images) if self.images else None


class AdaptiveSize:
    """The largest size whose delay stays below a limit.

    The next smaller size is taken when the median delay exceeds the limit. The next larger one is taken when the delay,
    which grows at most with the number of pixels, is expected to stay clearly below it.
    """

    def __init__(self, largest: int, longest_delay: float) -> None:
        """
        Args:
            largest: longer side of the avatar's images, pixels. The smallest is half of it.
            longest_delay: seconds.
        """
        self.sizes = tuple(2 * round(largest * share / 2) for share in _SHARES)
        self._longest, self._choice = longest_delay, 0
        self._delays: deque[float] = deque(maxlen=_NUM_DELAYS)

    @property
    def size(self) -> int:
        return self.sizes[self._choice]

    def add(self, delay: float) -> None:
        """Take the delay of an image of the current size into account."""
        self._delays.append(delay)
        if len(self._delays) < _NUM_DELAYS:
            return
        delay, last = float(np.median(self._delays)), len(self.sizes) - 1
        if delay > self._longest and self._choice < last:
            self._choose(self._choice + 1)
        elif self._choice > 0:
            growth = (self.sizes[self._choice - 1] / self.size) ** 2
            if delay * growth < _RESERVE * self._longest:
                self._choose(self._choice - 1)

    def _choose(self, choice: int) -> None:
        self._choice = choice
        self._delays.clear()
