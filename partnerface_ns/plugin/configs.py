"""The methods `partnerface-lite` and `partnerface`: presets as functions of one base configuration."""

from __future__ import annotations

from typing import Any

import torch
from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
from nerfstudio.plugins.types import MethodSpecification

from partnerface_ns.plugin.trainer import FusedAdamConfig, PartnerfaceTrainerConfig
from partnerface_ns.training import presets
from partnerface_ns.training.schedule import LEARNING_RATES


def base() -> PartnerfaceTrainerConfig:
    """Settings that all presets share. Sizes are the defaults of the components, chosen for two CPU cores."""
    return PartnerfaceTrainerConfig(
        method_name="partnerface-base",
        machine=MachineConfig(device_type="cuda" if torch.cuda.is_available() else "cpu"),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 14, max_num_display_images=32),
        vis="viewer+tensorboard",
        optimizers=_optimizers(),
        steps_per_save=2000,
        steps_per_eval_batch=1000,
        steps_per_eval_image=2000,
        steps_per_eval_all_images=1_000_000,
    )


def lite() -> PartnerfaceTrainerConfig:
    """For two CPU cores or a small GPU."""
    config = base()
    config.method_name = "partnerface-lite"
    return config


def full() -> PartnerfaceTrainerConfig:
    """For one GPU, in full quality."""
    config = base()
    config.method_name = "partnerface"
    config.max_num_iterations = 60_000
    preset, pipeline = presets.full(), config.pipeline
    pipeline.datamanager.sampler, pipeline.model.avatar = preset.sampler, preset.avatar
    pipeline.model.eval_num_rays_per_chunk = config.viewer.num_rays_per_chunk = 1 << 16
    return config


def _optimizers() -> dict[str, Any]:
    """Adam for each parameter group of the avatar. `ScheduleCallback` scales the learning rate at every step."""
    return {name: {"optimizer": FusedAdamConfig(lr=lr), "scheduler": None} for name, lr in LEARNING_RATES.items()}


partnerface = MethodSpecification(full(), "Animatable face of local parts over a FLAME head, full quality on a GPU.")
partnerface_lite = MethodSpecification(lite(), "Animatable face of local parts over a FLAME head, on two CPU cores.")
