"""A tiny capture and tiny runs of the plugin, in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.engine.trainer import writer

from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.capture.vhap_writer import write_vhap
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.plugin.configs import lite
from partnerface_ns.plugin.trainer import PartnerfaceTrainer, PartnerfaceTrainerConfig

SIZE = 24


def _write_subject(root: Path, head: HeadModel, num_train: int, num_test: int, seed: int = 0) -> Path:
    """A head that turns and speaks before a camera; its images are a coloured disc."""
    rng = torch.Generator().manual_seed(seed)
    num = num_train + num_test
    noise = lambda size, scale: scale * torch.randn(num, size, generator=rng)  # noqa: E731
    track = HeadState(
        noise(head.num_expr, 0.3), noise(3, 0.05), noise(3, 0.05), noise(3, 0.05).abs(), noise(6, 0.05), noise(3, 0.005)
    )
    T = np.eye(4)
    T[:3, 3] = [*head.template.mean(0)[:2].tolist(), 1.0]
    camera = Camera(T, 2.2 * SIZE, 2.2 * SIZE, SIZE / 2, SIZE / 2, SIZE, SIZE)
    frames = tuple(Frame(t, 0, camera, Path(f"{t}.png"), None) for t in range(num))
    splits = {"train": tuple(range(num_train)), "val": (), "test": tuple(range(num_train, num))}
    capture = Capture(root, root.name, HeadModelRef(), torch.zeros(head.num_identity), None, track, frames, splits)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    mask = np.where(x**2 + y**2 < (SIZE / 3) ** 2, 255, 0).astype(np.uint8)
    rgb = np.stack([np.full_like(mask, 200), (x * 5 + 120).astype(np.uint8), (y * 5 + 120).astype(np.uint8)], -1)
    write_vhap(root, capture, head, ((_marked(rgb, t), mask) for t in range(num)))
    return root


def _marked(rgb: np.ndarray, t: int) -> np.ndarray:
    """The image with a corner of its own: the same image would not be taken for train and test."""
    marked = rgb.copy()
    marked[0, 0] = (t % 256, t // 256, 0)
    return marked


@pytest.fixture
def write_subject() -> Callable[..., Path]:
    """Writes a capture folder: (root, head, number of training frames, of test frames, seed)."""
    return _write_subject


@pytest.fixture(scope="session")
def head() -> HeadModel:
    return load_open_head()


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory, head: HeadModel) -> Path:
    return _write_subject(tmp_path_factory.mktemp("captures") / "subject", head, 4, 2)


def tiny(config: PartnerfaceTrainerConfig) -> PartnerfaceTrainerConfig:
    """The same method with networks and batches too small to learn much."""
    avatar, data = config.pipeline.model.avatar, config.pipeline.datamanager
    avatar.num_parts, avatar.everywhere_start, avatar.stage2_start = 4, 0.0, 0.5
    avatar.canonical.resolutions, avatar.canonical.num_channels, avatar.canonical.hidden = (8, 16), 2, 8
    avatar.parts.hidden = avatar.assigner.hidden = 8
    avatar.sampling.grid_resolution, avatar.sampling.num_probes, avatar.sampling.num_samples = 16, 16, 4
    data.sampler.rays_per_batch, data.sampler.frames_per_batch = 64, 2
    config.machine.device_type, config.vis = "cpu", "tensorboard"
    config.max_num_iterations, config.logging.local_writer.enable = 6, False
    return config


@pytest.fixture
def make_config(subject: Path, tmp_path: Path) -> Callable[..., PartnerfaceTrainerConfig]:
    """A tiny run's configuration, as ns-train would have it when it starts to train."""

    def make(name: str = "run", **changes: object) -> PartnerfaceTrainerConfig:
        config = tiny(lite())
        config.pipeline.datamanager.data, config.output_dir, config.timestamp = subject, tmp_path / "out", name
        for key, value in changes.items():
            setattr(config, key, value)
        if config.data is not None:  # ns-train does this with the alias
            config.pipeline.datamanager.data = config.data
        config.set_timestamp()
        config.save_config()
        return config

    return make


@pytest.fixture
def start() -> Callable[[PartnerfaceTrainerConfig], PartnerfaceTrainer]:
    """Makes a trainer that is ready to train."""
    return _start


def _start(config: PartnerfaceTrainerConfig) -> PartnerfaceTrainer:
    writer.EVENT_WRITERS.clear()
    writer.EVENT_STORAGE.clear()
    writer.GLOBAL_BUFFER.clear()
    torch.manual_seed(config.machine.seed)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


@pytest.fixture(scope="module")
def trained(subject, tmp_path_factory) -> Path:
    """A run of two steps."""
    config = tiny(lite())
    config.pipeline.datamanager.data, config.max_num_iterations = subject, 2
    config.pipeline.model.avatar.space.resolution = 16
    config.output_dir, config.timestamp = tmp_path_factory.mktemp("trained"), "run"
    config.set_timestamp()
    config.save_config()
    _start(config).train()
    for event_writer in writer.EVENT_WRITERS:  # the folder is moved: nothing may still be written into it
        event_writer.tb_writer.close()
    return config.get_base_dir()


@pytest.fixture
def run(trained, tmp_path) -> Iterator[Path]:
    """A copy of the trained run, which is hidden meanwhile."""
    hidden = Path(shutil.move(trained, tmp_path / "hidden"))
    run = shutil.copytree(hidden, tmp_path / "runs" / "run")
    yield run
    shutil.move(hidden, trained)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in the same order every time."""
    num = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num)
