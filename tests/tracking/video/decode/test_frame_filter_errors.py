"""Frames that ffmpeg cannot convert are one error that names the video and the pixel format."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from partnerface_ns.common.errors import InputError
from partnerface_ns.tracking.video.decode.frame_filter import FrameFilter


def test_an_error_of_ffmpeg_names_the_video_and_the_pixel_format(monkeypatch):
    def fail(self: FrameFilter, frame: object) -> None:
        raise ValueError("no path between colour spaces")

    monkeypatch.setattr(FrameFilter, "_build", fail)
    frames = object.__new__(FrameFilter)
    frames._av, frames._path = SimpleNamespace(FFmpegError=OSError), Path("film.mp4")
    with pytest.raises(InputError, match=r"film\.mp4: the frames cannot be converted[\s\S]*gray9: no path between"):
        frames._require_graph(SimpleNamespace(format=SimpleNamespace(name="gray9")))
