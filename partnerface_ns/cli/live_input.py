"""Live sources of `partnerface live`: a camera, a video that is played as a camera, and Live Link Face."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partnerface_ns.common.errors import InputError

if TYPE_CHECKING:
    from partnerface_ns.cli.page_server import PageServer
    from partnerface_ns.driving.live_avatar import RgbImage
    from partnerface_ns.driving.live_source import LiveFrame
    from partnerface_ns.driving.livelink import LiveLinkReceiver
    from partnerface_ns.driving.player import Player

_LONGEST_DELAY = 0.3
"""Default of the delay above which images become smaller, seconds."""


@dataclass(frozen=True)
class LiveInput:
    """A live source; exactly one field is given."""

    camera: int | None = None
    """Index of a camera."""
    livelink: int | None = None
    """UDP port of a stream."""
    video: Path | None = None
    """A video that is played as a camera."""


def choose_live_input(
    camera: int | None, livelink: int | None, source: Path | None, motion: str | None, real_time: bool
) -> LiveInput | None:
    """The live source that the options select; None if they select no live source.

    Raises:
        InputError: the options contradict each other.
    """
    live = {"--camera": camera, "--livelink": livelink}
    given = [name for name, value in live.items() if value is not None]
    others = {"SOURCE or --video": source, "--motion": motion}
    everything = given + [name for name, value in others.items() if value is not None]
    if len(everything) > 1 and (given or real_time):
        expected = f"only {given[0] if given else '--video FILE --real-time'}"
        raise InputError("live", "needs one source", expected=expected, actual=" and ".join(everything))
    if real_time and (source is None or source.is_dir()):
        actual = "a folder" if source is not None else everything[0] if everything else "no source"
        raise InputError("--real-time", "plays a video file", expected="--video FILE --real-time", actual=actual)
    return LiveInput(camera, livelink, source if real_time else None) if given or real_time else None


def check_live_options(live: LiveInput | None, longest_delay: float | None, source_head_model: Path | None) -> None:
    """Check the options that apply only to live sources, or only to other sources.

    Raises:
        InputError: an option does not belong to the source, or the delay is not positive.
    """
    if live is not None and source_head_model is not None:
        expected = "no --source-head-model; live sources use the avatar's head model"
        raise InputError(
            "--source-head-model", "cannot be used with a live source", expected=expected, actual=source_head_model
        )
    if live is None and longest_delay is not None:
        expected = "--camera, --video FILE --real-time or --livelink"
        raise InputError("--max-delay", "needs a live source", expected=expected, actual="none")
    if longest_delay is not None and not longest_delay > 0:
        raise InputError("--max-delay", "out of range", expected="more than 0 seconds", actual=longest_delay)


def play_live(
    source: LiveInput,
    open_avatar: Callable[[], Player],
    size: int,
    longest_delay: float | None,
    new_server: Callable[[], PageServer],
) -> None:
    """Show an avatar that follows a live source on a page, and print a summary at the end.

    Args:
        source: the source.
        open_avatar: opens the avatar; called after the source was opened.
        size: longer side of the avatar's largest images, pixels.
        longest_delay: seconds; images become smaller if the delay exceeds it. None means 0.3.
        new_server: starts the page's server.

    Raises:
        InputError: the source cannot be opened, or fails later.
    """
    from partnerface_ns.driving.live_avatar import LiveAvatar, follow_live
    from partnerface_ns.driving.live_pace import AdaptiveSize, LivePace
    from partnerface_ns.driving.live_source import LiveFrames

    pace = LivePace()
    with ExitStack() as stack:
        arrivals, receiver = _open(source, stack)
        player = open_avatar()
        follow = _follower(receiver, player)
        server = new_server()
        stack.callback(server.stop)
        screen = LiveScreen(server)
        screen.tell("The avatar is being baked")
        print(f"Open {server.addresses} in a browser. Ctrl-C ends it.", flush=True)
        avatar = LiveAvatar(player)
        avatar.render(None, size)
        screen.tell("Waiting for the source")
        server.wait_for_page()
        if receiver is not None:
            receiver.drop_waiting()  # packets from before the page was open are old
        try:
            frames = stack.enter_context(LiveFrames(arrivals, follow, reserve_core=receiver is None))
            adaptive = AdaptiveSize(size, _LONGEST_DELAY if longest_delay is None else longest_delay)
            follow_live(avatar, frames, adaptive, screen, pace, lambda: _bad_packets(receiver))
        finally:
            total = pace.total()
            print("No frame was shown." if total is None else total.summary())
            if receiver is not None:
                last = f", the last one: {receiver.last_problem}" if receiver.num_bad else ""
                print(f"Bad packets: {receiver.num_bad}{last}.")


class LiveScreen:
    """The open pages. Their panel is one line of text."""

    def __init__(self, server: PageServer) -> None:
        self._server, self._set_line = server, server.one_line_panel()

    def is_watched(self) -> bool:
        return self._server.has_page()

    def show(self, image: RgbImage) -> None:
        self._server.show(image)

    def tell(self, line: str) -> None:
        self._set_line(line)


def _open(source: LiveInput, stack: ExitStack) -> tuple[Any, LiveLinkReceiver | None]:
    """The arrivals of a source, and the receiver of a stream."""
    if source.livelink is not None:
        from partnerface_ns.driving.livelink import LiveLinkReceiver

        receiver = LiveLinkReceiver(source.livelink)
        stack.callback(receiver.close)
        print(f"Live Link Face: set this machine's address and port {receiver.port} as a target in the app.")
        return receiver, receiver
    from partnerface_ns.tracking.realtime.sources import Camera, play_video
    from partnerface_ns.tracking.video.decode.reading import video_info

    if source.camera is not None:
        return Camera(source.camera), None
    assert source.video is not None
    video_info(source.video)
    return play_video(source.video), None


def _follower(receiver: LiveLinkReceiver | None, player: Player) -> Callable[[Any], LiveFrame]:
    from partnerface_ns.driving.live_source import LiveLinkFace, TrackedFace
    from partnerface_ns.tracking.realtime.tracker import RealtimeTracker

    if receiver is not None:
        return LiveLinkFace(player.rig, receiver.port)
    return TrackedFace(RealtimeTracker(player.person.model))


def _bad_packets(receiver: LiveLinkReceiver | None) -> str:
    return "" if receiver is None or receiver.num_bad == 0 else f" - {receiver.num_bad} bad packets"
