"""An avatar that follows a live source: frames that come too fast are dropped, and the size adapts."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event

import numpy as np
import pytest
import torch
from driving.test_livelink import packet

from partnerface_ns.driving.live_avatar import LiveAvatar, compose, follow_live
from partnerface_ns.driving.live_pace import AdaptiveSize, LivePace, ShownImage
from partnerface_ns.driving.live_source import LiveFrame, LiveFrames, LiveLinkFace, face_square
from partnerface_ns.driving.livelink import ArrivedPacket, parse_packet
from partnerface_ns.driving.motion import Motion
from partnerface_ns.flame.state import HeadState


@dataclass(frozen=True)
class Item:
    index: int
    time: float = 0.0


def frame(index: int, time: float = 0.0, motion: Motion | None = None, **more) -> LiveFrame:
    return LiveFrame(index, time, motion, None, None, **more)


# -- threads -----------------------------------------------------------------------------------------------------


def test_frames_that_arrive_during_tracking_are_dropped_but_for_the_newest():
    is_tracking, all_arrived, followed = Event(), Event(), []

    def source():
        yield Item(0)
        assert is_tracking.wait(10)
        for index in range(1, 10):
            yield Item(index)
        all_arrived.set()

    def follow(item: Item) -> LiveFrame:
        is_tracking.set()
        assert all_arrived.wait(10)
        followed.append(item.index)
        return frame(item.index)

    with LiveFrames(source(), follow) as frames:
        taken = []
        while (live := frames.take()) is not None:
            taken.append(live.index)
    assert followed == [0, 9], "nothing is queued"
    assert taken[-1] == 9 and len(taken) <= 2


@pytest.mark.parametrize("place", ["source", "follow"])
def test_an_error_of_a_thread_reaches_the_caller(place):
    def source():
        yield Item(0)
        if place == "source":
            raise ValueError("fails")

    def follow(item: Item) -> LiveFrame:
        if place == "follow":
            raise ValueError("fails")
        return frame(item.index)

    with LiveFrames(source(), follow) as frames, pytest.raises(ValueError, match="fails"):
        while frames.take() is not None:
            pass


@pytest.mark.parametrize("reserve_core", [False, True])
def test_torch_threads_are_one_fewer_for_tracking_and_then_what_they_were(reserve_core):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with LiveFrames(iter([Item(0)]), lambda item: frame(item.index), reserve_core) as frames:
            assert torch.get_num_threads() == (2 if reserve_core else 3)
            while frames.take() is not None:
                pass
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


# -- the loop ----------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 10.0

    def __call__(self) -> float:
        return self.now


class Camera:
    """Frames at 25 per second on a fake clock, of which only the newest can be taken."""

    def __init__(self, clock: Clock, num: int, motion: Motion, message_at: int | None = None) -> None:
        self.clock, self.num, self.motion, self.message_at = clock, num, motion, message_at
        self.began, self.last = clock.now, -1

    def take(self, patience: float | None = None) -> LiveFrame | None:
        index = int((self.clock.now - self.began) * 25 + 1e-6)
        if index == self.last:
            index += 1
            self.clock.now = self.began + index / 25
        self.last = index
        if index >= self.num:
            return None
        is_lost = index == self.message_at
        return LiveFrame(
            index,
            self.began + index / 25,
            None if is_lost else self.motion,
            np.full((8, 12, 3), 200, np.uint8),
            "No face is visible" if is_lost else None,
            is_ready=index >= 5,
            seconds={"landmarks": 0.004},
        )


class Screen:
    def __init__(self, is_watched: bool = True) -> None:
        self.images, self.lines, self._is_watched = [], [], is_watched

    def is_watched(self) -> bool:
        return self._is_watched

    def show(self, image: np.ndarray) -> None:
        self.images.append(image)

    def tell(self, line: str) -> None:
        self.lines.append(line)


class SlowAvatar(LiveAvatar):
    """Rendering takes a time that grows with the number of pixels."""

    def __init__(self, clock: Clock, seconds: float, at: int) -> None:
        self.clock, self.seconds, self.at, self.sizes = clock, seconds, at, []

    def render(self, motion, size):
        self.clock.now += self.seconds * (size / self.at) ** 2
        self.sizes.append(size)
        return np.zeros((size, size, 3), np.uint8)


@pytest.fixture
def motion(tiny_head) -> Motion:
    rest = HeadState.neutral(tiny_head.num_expr)
    return Motion(HeadState.stack([rest]), rest, 25.0)


def test_a_slow_renderer_shows_the_newest_frames_only(motion):
    clock, screen, pace = Clock(), Screen(), LivePace()
    avatar = SlowAvatar(clock, 0.110, 32)
    follow_live(avatar, Camera(clock, 60, motion), AdaptiveSize(32, 9.0), screen, pace, lambda: " - 3 bad", clock)
    shown = [image.index for image in pace.images]
    assert shown[0] >= 5 and np.diff(shown).max() == 3, "the frames of the measurement do not count"
    total = pace.total()
    assert total.share == pytest.approx(0.36, abs=0.05) and total.fps == pytest.approx(9.1, abs=0.3)
    assert 0.11 <= total.delay < 0.11 + 0.04 and total.late_delay < 0.16, "the delay does not grow"
    assert screen.lines[-1].endswith(" - 3 bad") and "images/s" in screen.lines[-1]
    assert "rendering 110 ms" in total.summary() and "landmarks 4 ms" in total.summary()
    assert screen.images[-1].shape == (32, 80, 3), "the source is on the left"


def test_a_lost_face_is_announced_and_the_last_image_stays(player, motion):
    clock, screen, pace = Clock(), Screen(), LivePace()
    follow_live(LiveAvatar(player), Camera(clock, 10, motion, message_at=8), AdaptiveSize(16, 9.0), screen, pace)
    assert "No face is visible" in screen.lines[8]
    assert "images/s" in screen.lines[9]


def test_without_a_page_nothing_is_rendered(motion):
    clock, screen = Clock(), Screen(is_watched=False)
    avatar = SlowAvatar(clock, 0.01, 32)
    pace = LivePace()
    follow_live(avatar, Camera(clock, 20, motion), AdaptiveSize(32, 9.0), screen, pace, clock=clock)
    assert not avatar.sizes and pace.total() is None


def test_the_figures_begin_again_with_a_new_page(motion):
    class Reopened(Screen):
        def is_watched(self) -> bool:
            return not 5.0 < clock.now - 10 < 6.0

    clock, pace, screen = Clock(), LivePace(), Reopened()
    avatar, source = SlowAvatar(clock, 0.01, 32), Camera(clock, 200, motion)
    follow_live(avatar, source, AdaptiveSize(32, 9.0), screen, pace, clock=clock)
    assert pace.images[0].index >= 150 and pace.total().share > 0.95


def test_a_silent_source_is_reported(motion):
    class Silent:
        calls = iter([TimeoutError, None])

        def take(self, patience=None):
            if next(self.calls) is TimeoutError:
                raise TimeoutError

    avatar, screen = SlowAvatar(Clock(), 0, 1), Screen()
    follow_live(avatar, Silent(), AdaptiveSize(32, 1.0), screen, LivePace(), lambda: ", 2 bad packets")
    assert screen.lines == ["Nothing arrives from the source, 2 bad packets"]


# -- size --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "size"), [(0.10, 64), (0.30, 48), (0.90, 32)])
def test_the_size_is_the_largest_that_is_fast_enough(motion, seconds, size):
    clock, avatar = Clock(), SlowAvatar(None, seconds, 64)
    avatar.clock = clock
    pace = LivePace()
    follow_live(avatar, Camera(clock, 600, motion), AdaptiveSize(64, 0.25), Screen(), pace, clock=clock)
    assert avatar.sizes[0] == 64 and set(avatar.sizes[-20:]) == {size}, "it does not change back and forth"
    assert pace.total().sizes[-1] == size


def test_the_size_grows_again_when_the_machine_is_free():
    size = AdaptiveSize(256, 0.25)
    assert size.sizes == (256, 192, 128)
    for delay in [0.5] * 16:
        size.add(delay)
    assert size.size == 128
    for delay in [0.05] * 16:
        size.add(delay)
    assert size.size == 256
    for _ in range(100):
        size.add(0.24)
    assert size.size == 256
    for delay in [0.5] * 4 + [0.12] * 100:  # 192 pixels in 0.12 s are 256 in 0.21 s, which is close to the limit
        size.add(delay)
    assert size.size == 192


def test_figures_of_shown_images():
    pace = LivePace()
    assert pace.total() is None and pace.recent() is None
    for i in range(100):
        pace.add(ShownImage(3 * i, 0.12 * i, 0.5 if i == 50 else 0.1, 64, {"fit": 0.01} if i % 2 else {}))
    total = pace.total()
    assert (total.num_arrived, total.num_shown) == (298, 100) and total.delay == 0.1
    assert total.fps == pytest.approx(1 / 0.12) and total.seconds == {"fit": 0.01}
    assert pace.recent().num_shown < 20
    assert "100 of 298 frames (34%)" in total.summary()


# -- images ------------------------------------------------------------------------------------------------------


def test_the_avatar_moves_relative_to_both_neutral_faces(player, motion, tiny_head):
    avatar = LiveAvatar(player)
    assert torch.allclose(avatar.state(motion).jaw, player.neutral.jaw, atol=1e-4)
    opened = HeadState.stack([motion.neutral])
    opened.jaw[0, 0] = 0.05
    state = avatar.state(Motion(opened, motion.neutral, 25.0))
    assert float(state.jaw[0] - player.neutral.jaw[0]) == pytest.approx(0.05, abs=0.01)


def test_without_a_motion_the_last_image_is_kept_unless_the_size_changes(player, motion):
    avatar = LiveAvatar(player)
    neutral = avatar.render(None, 16)
    assert avatar.render(None, 16) is neutral
    assert avatar.render(None, 8).shape == (8, 8, 3)


def test_a_message_is_drawn_on_the_image():
    image, source = np.full((96, 96, 3), 90, np.uint8), np.full((50, 100, 3), 30, np.uint8)
    assert compose(None, image, None) is image
    assert compose(source, image, None).shape == (96, 288, 3)
    drawn = compose(source, image, "Keep still")
    assert drawn.shape == (96, 288, 3) and drawn.max() > 200 and (drawn[:60, 192:] == 90).all()


def test_the_square_around_a_face_stays_in_the_frame():
    points = np.array([[5.0, 10.0], [45.0, 60.0]])
    assert face_square(points, (100, 200, 3)) == (0, 0, 100)
    x, y, side = face_square(points + np.array([120, 30]), (480, 640, 3))
    assert side == 110 and (x, y) == (90, 10)


def test_live_link_packets_become_motions(player):
    face = LiveLinkFace(player.rig, 11111)
    live = face(ArrivedPacket(4, 1.5, parse_packet(packet({"JawOpen": 1.0}))))
    assert (live.index, live.time, live.message) == (4, 1.5, None) and live.motion is not None
    assert float(live.motion.states.jaw[0, 0]) > 0.2
    lost = face(ArrivedPacket(5, 1.6, parse_packet(packet()[: 1 + 4 + 36 + 4 + 14])))
    assert lost.motion is None and lost.message == "Live Link Face sees no face"
