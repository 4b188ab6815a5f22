"""The avatar that follows a live source: it renders the newest frame and skips the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from partnerface_ns.driving.live_pace import AdaptiveSize, LivePace, ShownImage
from partnerface_ns.driving.live_source import LiveFrame
from partnerface_ns.driving.motion import Motion
from partnerface_ns.driving.player import Player, scale_camera
from partnerface_ns.driving.retarget import clamp, retarget
from partnerface_ns.driving.skulls import place_skull, skull_poses
from partnerface_ns.flame.state import HeadState
from partnerface_ns.rendering.figures import to_image

_PATIENCE = 1.0
"""Seconds without a frame after which the screen says so."""
RgbImage = UInt8[np.ndarray, "height width 3"]


@runtime_checkable
class Frames(Protocol):
    """A source of live frames."""

    def take(self, patience: float | None = None, /) -> LiveFrame | None:
        """The newest frame that was not taken yet; None at the end. Raises `TimeoutError` if none comes in time."""
        ...


@runtime_checkable
class Screen(Protocol):
    """Shows images to people."""

    def is_watched(self) -> bool:
        """Whether somebody looks; if not, nothing is rendered."""
        ...

    def show(self, image: RgbImage) -> None: ...

    def tell(self, line: str) -> None:
        """Show a line of text."""
        ...


class LiveAvatar:
    """An avatar in front of its training camera."""

    def __init__(self, player: Player) -> None:
        self._player, self._person = player, player.person
        self._last: tuple[int, RgbImage] | None = None

    def state(self, motion: Motion) -> HeadState:
        """The avatar's head state for a motion of one frame, relative to both neutral states, batch axes ()."""
        states, _ = retarget(motion, self._person, self._player.neutral)
        return place_skull(self._person, clamp(states, self._player.info), skull_poses(self._person, states))[0]

    @torch.no_grad()
    def render(self, motion: Motion | None, size: int) -> RgbImage:
        """The avatar's image; without a motion, the last one of this size, or the neutral face.

        Args:
            motion: a motion of one frame.
            size: longer side of the image, pixels.
        """
        if motion is None and self._last is not None and self._last[0] == size:
            return self._last[1]
        state = self._player.neutral if motion is None else self.state(motion)
        camera = scale_camera(self._player.camera, size)
        self._last = size, to_image(self._player.render(camera, state)["rgb"])
        return self._last[1]


def follow_live(
    avatar: LiveAvatar,
    frames: Frames,
    size: AdaptiveSize,
    screen: Screen,
    pace: LivePace,
    note: Callable[[], str] = str,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Show the avatar until the source ends.

    Args:
        avatar: the avatar.
        frames: the source.
        size: chooses the size of the images.
        screen: shows the images, with the source on the left, if it has an image.
        pace: collects the shown images after the person is measured. It starts anew when a page is opened after a
            time without pages. A frame without a face counts as shown with the avatar's last image.
        note: a text that is appended to the line on the screen.
        clock: the clock of the arrivals, seconds.
    """
    was_watched = True
    while True:
        try:
            frame = frames.take(_PATIENCE)
        except TimeoutError:
            screen.tell("Nothing arrives from the source" + note())
            continue
        if frame is None:
            return
        if not screen.is_watched():
            was_watched = False
            continue
        if not was_watched:
            was_watched = True
            pace.restart()
        began, shown_size = clock(), size.size
        image = avatar.render(frame.motion, shown_size)
        finished = clock()
        if frame.is_ready:
            seconds = frame.seconds | ({"rendering": finished - began} if frame.motion is not None else {})
            pace.add(ShownImage(frame.index, finished, finished - frame.time, shown_size, seconds))
        if frame.motion is not None:
            size.add(finished - frame.time)
        screen.show(compose(frame.image, image, frame.message))
        screen.tell((frame.message or str(pace.recent())) + note())


def compose(
    source: UInt8[np.ndarray, "rows columns 3"] | None, image: RgbImage, message: str | None
) -> UInt8[np.ndarray, "height both 3"]:
    """The avatar's image with the source on its left and a message below the middle, if there are any.

    Args:
        source: the source's image; it is scaled to the same height.
        image: the avatar's image.
        message: the text.
    """
    if source is not None:
        height = image.shape[0]
        width = 2 * max(1, round(source.shape[1] * height / source.shape[0] / 2))
        left = Image.fromarray(source).resize((width, height), Image.Resampling.BILINEAR)
        image = np.concatenate([np.asarray(left), image], 1)
    if message is None:
        return image
    drawn = Image.fromarray(image)
    height, width = image.shape[:2]
    font = ImageFont.load_default(max(8, min(height // 12, 2 * width // len(message))))
    place = (width / 2, 0.92 * height)
    ImageDraw.Draw(drawn).text(place, message, "white", font, anchor="mm", stroke_width=2, stroke_fill="black")
    return np.asarray(drawn)
