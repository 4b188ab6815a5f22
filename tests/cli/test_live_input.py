"""Live sources of `partnerface live`: options, errors, and a stream that is played to its end."""

from __future__ import annotations

import re
import socket
import time
from contextlib import contextmanager
from threading import Thread

import pytest
from driving.conftest import avatar, avatar_file, camera, capture, info  # noqa: F401
from driving.test_livelink import packet

from partnerface_ns.cli import page_server
from partnerface_ns.cli.live_input import choose_live_input
from partnerface_ns.cli.main import main


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--camera 0 --livelink 11111", "needs one source.*only --camera.*--camera and --livelink"),
        ("--camera 0 --motion talk", "needs one source.*--camera and --motion"),
        ("film.mp4 --livelink 11111", "needs one source.*--livelink and SOURCE or --video"),
        ("film.mp4 --video film.mp4 --real-time", "needs one source.*SOURCE or --video.*both"),
        ("--real-time", "--real-time: plays a video file.*no source"),
        ("--real-time --motion talk", "--real-time: plays a video file.*--motion"),
        (". --real-time", "--real-time: plays a video file.*a folder"),
        ("--video film.mp4 --motion talk --real-time", "needs one source.*only --video FILE --real-time"),
        ("--motion talk --source-head-model film.mp4", "--source-head-model: a built-in motion has no file"),
        ("--video missing.mp4 --real-time", "missing.mp4: the video does not exist"),
        ("--video film.mp4 --real-time", "film.mp4: the file is empty"),
        ("--camera 63", "--camera 63: the camera does not open.*another index"),
        ("--livelink 70000", "--livelink: out of range.*70000"),
        ("--camera 0 --max-delay 0", "--max-delay: out of range"),
        ("--motion talk --max-delay 1", "--max-delay: needs a live source"),
        ("--camera 0 --source-head-model film.mp4", "--source-head-model: cannot be used with a live source"),
        ("--camera 0 --size 1", "--size: out of range"),
        ("empty", "empty: no capture layout is recognised.*an empty folder"),
    ],
)
def test_options_are_checked_before_the_avatar_is_opened(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "film.mp4").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="1"):
        main(["live", "no-run", *options.split()])
    assert re.search(message, capsys.readouterr().err, re.DOTALL)


def test_a_video_is_tracked_first_unless_it_is_played_in_real_time(tmp_path):
    film = tmp_path / "film.mp4"
    film.touch()
    assert choose_live_input(None, None, film, None, False) is None
    assert choose_live_input(None, None, None, "talk", False) is None
    live = choose_live_input(None, None, film, None, True)
    assert live is not None and live.video == film


def test_a_livelink_port_in_use_is_reported(avatar_file, capsys):  # noqa: F811
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        with pytest.raises(SystemExit, match="1"):
            main(["live", str(avatar_file), "--livelink", str(taken.getsockname()[1]), "--port", "0"])
    assert "--livelink: the port cannot be used" in capsys.readouterr().err


class FakeServer:
    """A page that somebody looks at, without a browser; its lines and images are kept."""

    lines, images, addresses = [], [], "nowhere"

    def __init__(self, host, port): ...

    def one_line_panel(self):
        return self.tell

    def tell(self, line):
        self.lines.append(line)
        if "images/s" in line and "bad packets" in line:
            raise KeyboardInterrupt  # Ctrl-C

    def show(self, image):
        self.images.append(image)

    def has_page(self):
        return True

    wait_for_page = has_page

    def stop(self):
        self.lines.append("stopped")


@contextmanager
def sending(port: int):
    """Send packets, some of them bad, until the context ends."""
    sending = [True]

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while sending:
                sender.sendto(packet({"JawOpen": 0.4}), ("127.0.0.1", port))
                sender.sendto(packet(version=9), ("127.0.0.1", port))
                time.sleep(0.02)

    thread = Thread(target=send)
    thread.start()
    yield
    sending.clear()
    thread.join()


def test_a_stream_drives_an_avatar_and_ends_with_a_summary(avatar_file, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(page_server, "PageServer", FakeServer)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("0.0.0.0", 0))
        port = free.getsockname()[1]
    with sending(port), pytest.raises(SystemExit, match="130"):
        main(["live", str(avatar_file), "--livelink", str(port), "--size", "16", "--device", "cpu", "--port", "0"])
    printed = capsys.readouterr().out
    assert f"port {port}" in printed
    assert re.search(r"Shown: \d+ of \d+ frames \(\d+%\)", printed) and "Delay: median" in printed
    assert re.search(r"Bad packets: [1-9]\d*, the last one: version 9", printed)
    assert FakeServer.images and FakeServer.lines[-1] == "stopped"
