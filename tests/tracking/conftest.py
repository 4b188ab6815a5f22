"""A few images of a synthetic person, and films made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from partnerface_ns.demo.subject import DemoSubject

SIZE, NUM_FRAMES = 256, 20
BACKGROUND = (120, 135, 150)


@pytest.fixture(scope="session")
def person() -> DemoSubject:
    return DemoSubject.create(3, 200, SIZE)


@pytest.fixture(scope="session")
def images(person: DemoSubject) -> list[tuple[np.ndarray, np.ndarray]]:
    """Colours on a plain background, and the person's share of each pixel in [0, 1]."""
    result = []
    for timestep in range(NUM_FRAMES):
        rgb, mask = person.image(timestep)
        share = mask.astype(np.float32)[..., None] / 255
        # The synthetic images are on white already.
        on_grey = rgb + (np.array(BACKGROUND) - 255.0) * (1 - share)
        result.append((np.clip(np.round(on_grey), 0, 255).astype(np.uint8), share[..., 0]))
    return result


def write_film(
    path: Path,
    images: Iterable[np.ndarray],
    fps: int = 25,
    codec: str = "libx264",
    sar: Fraction | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """A video of images; the suffix decides on the container, whose options may be given, too."""
    with av.open(str(path), "w", options=container or {}) as output:
        stream = None
        for rgb in images:
            if stream is None:
                stream = output.add_stream(codec, rate=fps, options=options or {"crf": "12"})
                stream.height, stream.width, stream.pix_fmt = rgb.shape[0], rgb.shape[1], "yuv420p"
                if sar is not None:
                    stream.codec_context.sample_aspect_ratio = sar
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")))
        output.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def film() -> Callable[..., Path]:
    """Writes images as a video: `write_film`."""
    return write_film


@pytest.fixture(scope="session")
def wide_video(tmp_path_factory: pytest.TempPathFactory, images: list[tuple[np.ndarray, np.ndarray]]) -> Path:
    """The person in the middle of a frame wider than high."""
    frame = np.full((SIZE, SIZE + 96, 3), BACKGROUND, dtype=np.uint8)
    frames = []
    for rgb, _ in images:
        frame[:, 48:-48] = rgb
        frames.append(frame.copy())
    return write_film(tmp_path_factory.mktemp("videos") / "wide.mp4", frames)


@pytest.fixture(scope="session")
def disc() -> Callable[..., np.ndarray]:
    """Makes a matte (size x size) of a disc with a centre and a radius in pixels."""

    def make(size: int, centre: tuple[float, float], radius: float) -> np.ndarray:
        y, x = np.mgrid[:size, :size] + 0.5
        return np.clip(radius + 0.5 - np.hypot(x - centre[0], y - centre[1]), 0, 1).astype(np.float32)

    return make
