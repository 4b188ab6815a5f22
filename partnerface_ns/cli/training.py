"""An ordinary nerfstudio run of `partnerface-lite`, trained from another command and resumed by the same call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from partnerface_ns.plugin.trainer import PartnerfaceTrainerConfig

METHOD = "partnerface-lite"
RUNS_NAME = "runs"
"""Folder of the runs inside the command's folder."""


def run_folder(folder: Path, name: str) -> Path:
    """Folder of the run `name` inside a command's folder."""
    return folder / RUNS_NAME / METHOD / name


def training_config(
    data: Path, folder: Path, name: str, minutes: float, device: str, seed: int = 0
) -> PartnerfaceTrainerConfig:
    """Settings of a run without a viewer.

    Args:
        data: the capture.
        folder: the command's folder, in which the run is written.
        name: the run's name.
        minutes: minutes of training.
        device: cpu or cuda.
        seed: seed of the training.
    """
    from partnerface_ns.plugin.configs import lite

    config = lite()
    device_type: Literal["cpu", "cuda"] = "cpu" if device == "cpu" else "cuda"
    config.machine.device_type, config.machine.seed = device_type, seed
    config.vis, config.max_train_minutes = "tensorboard", minutes
    config.pipeline.datamanager.data = data
    config.output_dir, config.experiment_name, config.timestamp = folder.resolve(), RUNS_NAME, name
    return config


def train(config: PartnerfaceTrainerConfig) -> None:
    """Train a run, from its newest checkpoint on if it has one. A complete run stays as it is."""
    from nerfstudio.scripts.train import train_loop

    from partnerface_ns.plugin.checkpoints import find_newest_checkpoint, list_checkpoints

    config.set_timestamp()
    if list_checkpoints(config.get_checkpoint_dir()):
        config.load_dir = config.get_checkpoint_dir()
    config.save_config()
    if config.load_dir is not None:
        config.load_step = find_newest_checkpoint(config.load_dir).load_step
    train_loop(local_rank=0, world_size=1, config=config)
