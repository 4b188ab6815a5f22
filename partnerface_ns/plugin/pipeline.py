"""The pipeline: strict loading of a checkpoint, and evaluation that keeps every image's values."""

from __future__ import annotations

import csv
import hashlib
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, Type

import numpy as np
import torch
import tyro
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from PIL import Image
from torch import Tensor

from partnerface_ns.avatar.file_format import AVATAR_NAME, check_same_head_model
from partnerface_ns.capture.capture import Frame
from partnerface_ns.common.atomic import atomic_write
from partnerface_ns.common.clock import synchronized_seconds
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import require_writable
from partnerface_ns.common.progress import progress
from partnerface_ns.plugin.datamanager import PartnerfaceDataManager, PartnerfaceDataManagerConfig
from partnerface_ns.plugin.model import PartnerfaceModel, PartnerfaceModelConfig
from partnerface_ns.plugin.process import nerfstudio_command, provide_ffmpeg

PER_IMAGE_NAME = "per_image.csv"
"""File in the run folder that holds the last evaluation's values of every image."""
LABEL_COLUMNS = ("image", "timestep", "camera", "weights")
"""Columns of that file that say what was evaluated: `weights` tells one training state from another."""
_ONLY_SHOWN = ("ns-viewer", "camera-path", "spiral")
"""Commands of nerfstudio's that need no image and no training camera."""
_EXPORTS = ("tsdf", "cameras")
"""Commands of ns-export that work with an avatar."""


@dataclass
class PartnerfacePipelineConfig(VanillaPipelineConfig):
    """Data manager and model."""

    _target: Type = field(default_factory=lambda: PartnerfacePipeline)
    """Target class to instantiate."""
    datamanager: PartnerfaceDataManagerConfig = field(default_factory=PartnerfaceDataManagerConfig)
    """Images and rays."""
    model: PartnerfaceModelConfig = field(default_factory=PartnerfaceModelConfig)
    """The avatar."""
    run_folder: tyro.conf.Suppress[Optional[Path]] = None
    """Folder of the run, where evaluations are written; a training run sets it."""


class PartnerfacePipeline(VanillaPipeline):
    """Wires data manager and model."""

    config: PartnerfacePipelineConfig
    datamanager: PartnerfaceDataManager
    model: PartnerfaceModel

    def __init__(self, config: PartnerfacePipelineConfig, device: Any, **kwargs: Any) -> None:
        program = nerfstudio_command(sys.argv)
        _check_export(*program)
        super().__init__(_without_capture(config, *program), device, **kwargs)
        provide_ffmpeg()
        self.model.fast = self.test_mode != "val"
        self._name_folders()
        if config.run_folder is not None:
            self.model.head_controls.use_folder(config.run_folder)
            self.model.animation.use_folder(config.run_folder)

    def _name_folders(self) -> None:
        """Let the viewer show controls in folders of these names: it takes the shortest path of attributes."""
        self.add_module("Animation", self.model.animation)
        self.add_module("Expression", self.model.head_controls)
        self.add_module("View", self.model.page_view)

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """Load a checkpoint; unlike nerfstudio's own, never in part.

        Raises:
            InputError: the checkpoint belongs to other settings or to another head model.
        """
        source = self.config.run_folder or "checkpoint"
        prefix = "_model."
        state = {key.removeprefix("module."): value for key, value in loaded_state.items()}
        state = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        try:
            self.model.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise InputError(source, "the checkpoint does not fit these settings", found=error) from error
        avatar = self.model.avatar
        check_same_head_model(source, avatar.state_dict(), avatar.skinning.head.model)

    def get_average_eval_image_metrics(
        self, step: int | None = None, output_path: Path | None = None, get_std: bool = False
    ) -> dict[str, float]:
        """Mean metrics of all evaluation images; their single values go to a CSV in the run folder.

        ns-eval's own are written beside its result too. An image that lacks a region does not count in that
        region's mean.

        Args:
            step: training step, unused.
            output_path: folder for the images themselves.
            get_std: whether to give standard deviations as well (0 for a single image).
        """
        result = _ns_eval_result(sys.argv)
        if result is not None:
            require_writable(result)
        rows = self.evaluate(output_path=output_path)
        self.train()
        if result is not None:
            _write_csv(result.with_name(f"{result.stem}_{PER_IMAGE_NAME}"), rows)
        names = [name for name in rows[0] if name not in LABEL_COLUMNS]
        values = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}
        means = {name: _mean(v) for name, v in values.items()}
        return means | ({f"{name}_std": _std(v) for name, v in values.items()} if get_std else {})

    def evaluate(self, indices: Sequence[int] | None = None, output_path: Path | None = None) -> list[dict[str, Any]]:
        """Values of evaluation images, a row each. Those of all also go to the run folder's CSV if it can be written.

        The pipeline is in evaluation mode afterwards.

        Args:
            indices: of the images; None takes all.
            output_path: folder for the images themselves.

        Raises:
            InputError: the capture has frames without images.
        """
        dataset = self.datamanager.eval_dataset
        if any(frame.image_path is None for frame in dataset.frames):
            raise InputError(dataset.parsed.capture.root, "has no images to compare with")
        self.eval()
        rows = list(self._evaluate(range(len(dataset)) if indices is None else indices, output_path))
        if self.config.run_folder is not None and indices is None:
            path = self.config.run_folder / PER_IMAGE_NAME
            try:
                _write_csv(path, rows)
            except OSError as error:
                print(f"{path}: not written ({error.strerror}); the figures are as they should be.")
        return rows

    def weights_digest(self) -> str:
        """A hash of all that the avatar learned."""
        found = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            found.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:12]

    def _evaluate(self, indices: Sequence[int], output_path: Path | None) -> Iterable[dict[str, Any]]:
        loader, weights = self.datamanager.fixed_indices_eval_dataloader, self.weights_digest()
        lpips = self._lpips()
        for index in progress(indices, "Evaluating"):
            camera, batch = loader.get_camera(index)
            began = synchronized_seconds(self.device)
            outputs = self.model.get_outputs_for_camera(camera, exact=True)
            seconds = synchronized_seconds(self.device) - began
            metrics, images = self.model.get_image_metrics_and_images(outputs, batch)
            if lpips is not None:
                metrics["lpips"] = float(lpips(outputs["rgb"].cpu(), batch["image"].cpu()))
            if output_path is not None:
                _write_images(output_path, images, index)
            frame: Frame = batch["frame"]
            name = self.datamanager.eval_dataset.image_filenames[index].name
            speed = {"num_rays_per_sec": outputs["rgb"][..., 0].numel() / seconds, "fps": 1 / seconds}
            shown = {"image": name, "timestep": frame.timestep, "camera": frame.camera_index, "weights": weights}
            yield shown | metrics | speed

    def _lpips(self) -> Any:
        from partnerface_ns.rendering.metrics import load_lpips

        lpips, reason = load_lpips()
        if reason is not None:
            print(f"No lpips: {reason}")
        return lpips


def _check_export(program: str, subcommand: str) -> None:
    """Refuse what ns-export would stumble on only after the run is loaded.

    Raises:
        InputError: names what works.
    """
    if program == "ns-export" and subcommand not in _EXPORTS:
        raise InputError(
            f"ns-export {subcommand}",
            "an avatar cannot be exported so: its surface moves, and it has no density of its own in the world",
            expected="ns-export tsdf, ns-export cameras, or partnerface export (meshes, parts, head states)",
        )


def _without_capture(config: PartnerfacePipelineConfig, program: str, subcommand: str) -> PartnerfacePipelineConfig:
    """The same, or the run's avatar file in the place of a capture that is gone and is not needed."""
    data = config.datamanager.data or config.datamanager.dataparser.data
    avatar = None if config.run_folder is None else config.run_folder / AVATAR_NAME
    if data.exists() or avatar is None or not avatar.is_file() or not {program, subcommand} & set(_ONLY_SHOWN):
        return config
    print(f"{data}: the capture is gone. {avatar} is shown: its neutral face, without the recorded frames.")
    dataparser = replace(config.datamanager.dataparser, data=avatar)
    return replace(config, datamanager=replace(config.datamanager, data=None, dataparser=dataparser))


def _ns_eval_result(arguments: Sequence[str]) -> Path | None:
    """Where ns-eval is about to write its result; it tells a pipeline nothing of it."""
    if Path(arguments[0]).stem != "ns-eval":
        return None
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") == "--output-path":
            return Path(value if equals else arguments[i + 1])
    return Path("output.json")


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _write_images(folder: Path, images: dict[str, Tensor], index: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        pixels = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / f"eval_{name}_{index:04d}.png")


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _std(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if known.size > 1 else 0.0
