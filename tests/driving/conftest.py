"""A tiny person, filmed, as an avatar file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.config import AvatarConfig
from partnerface_ns.avatar.file_format import AVATAR_NAME, AvatarInfo, save_avatar
from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.driving.player import Player
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera

SIZE, NUM = 16, 8


def filmed(head: HeadModel, camera: Camera, seed: int = 0) -> Capture:
    """A capture without images: a head that turns and speaks; the last two frames are for testing."""
    rng = torch.Generator().manual_seed(seed)
    noise = lambda size, scale: scale * torch.randn(NUM, size, generator=rng)  # noqa: E731
    track = HeadState(
        noise(head.num_expr, 0.3), noise(3, 0.05), noise(3, 0.05), noise(3, 0.05).abs(), noise(6, 0.05), noise(3, 0.005)
    )
    frames = tuple(Frame(t, 0, camera, None, None) for t in range(NUM))
    splits = {"train": tuple(range(NUM - 2)), "val": (), "test": (NUM - 2, NUM - 1)}
    reference = HeadModelRef(head.name, head.fingerprint)
    identity = 0.3 * torch.randn(head.num_identity, generator=rng)
    return Capture(Path("nowhere"), "tiny", reference, identity, None, track, frames, splits)


@pytest.fixture
def camera() -> Camera:
    T = np.eye(4)
    T[:3, 3] = [0.0, -0.05, 0.8]
    return Camera(T, 28.0, 28.0, SIZE / 2, SIZE / 2, SIZE, SIZE)


@pytest.fixture
def capture(tiny_head: HeadModel, camera: Camera) -> Capture:
    return filmed(tiny_head, camera)


@pytest.fixture
def avatar(tiny_head: HeadModel, capture: Capture) -> Avatar:
    config = AvatarConfig(num_parts=3)
    config.canonical.resolutions, config.canonical.num_channels, config.canonical.hidden = (8, 16), 2, 8
    config.parts.hidden = config.assigner.hidden = 8
    config.space.resolution = config.sampling.grid_resolution = config.sampling.num_probes = 16
    return Avatar(config, AvatarInit.of(capture, tiny_head)).eval()


@pytest.fixture
def info(capture: Capture, tiny_head: HeadModel, head_file: Path) -> AvatarInfo:
    return AvatarInfo.of(capture, tiny_head, head_file)


@pytest.fixture
def avatar_file(avatar: Avatar, info: AvatarInfo, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    save_avatar(folder / AVATAR_NAME, avatar, info)
    return folder / AVATAR_NAME


@pytest.fixture
def player(avatar: Avatar, info: AvatarInfo) -> Player:
    return Player(avatar, info)


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in the same order every time."""
    num = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num)
