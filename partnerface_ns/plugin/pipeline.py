"""The pipeline: strict loading of checkpoints, and evaluation that keeps the values of every image."""

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
from jaxtyping import Float
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from torch import Tensor

from partnerface_ns.avatar.file_format import AVATAR_NAME, check_same_head_model
from partnerface_ns.capture.capture import Frame
from partnerface_ns.capture.names import CAPTURES_OWN_SPLIT
from partnerface_ns.common.atomic import atomic_write
from partnerface_ns.common.clock import synchronized_seconds
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import require_writable
from partnerface_ns.common.progress import progress
from partnerface_ns.plugin.datamanager import PartnerfaceDataManager, PartnerfaceDataManagerConfig
from partnerface_ns.plugin.dataparser import FlameDataParserConfig
from partnerface_ns.plugin.model import PartnerfaceModel, PartnerfaceModelConfig
from partnerface_ns.plugin.process import parse_command, provide_ffmpeg
from partnerface_ns.rendering.figures import save_image, to_image

PER_IMAGE_NAME = "per_image.csv"
"""File in the run folder with the values of every image of the last evaluation."""
LABEL_COLUMNS = ("image", "timestep", "camera", "weights")
"""Columns of that file that are not metrics. `weights` identifies the weights that were evaluated."""
_COMMANDS_WITHOUT_CAPTURE = ("ns-viewer", "camera-path", "spiral")
"""nerfstudio commands that need no image and no training camera."""
_EXPORTS = ("tsdf", "cameras")
"""Subcommands of ns-export that work with an avatar."""


@dataclass
class PartnerfacePipelineConfig(VanillaPipelineConfig):
    """Settings of data manager and model."""

    _target: Type = field(default_factory=lambda: PartnerfacePipeline)
    """Target class to instantiate."""
    datamanager: PartnerfaceDataManagerConfig = field(default_factory=PartnerfaceDataManagerConfig)
    """Images and rays."""
    model: PartnerfaceModelConfig = field(default_factory=PartnerfaceModelConfig)
    """The avatar."""
    run_folder: tyro.conf.Suppress[Optional[Path]] = None
    """Folder of the run, to which evaluations are written. A training run sets it."""


class PartnerfacePipeline(VanillaPipeline):
    """Connects data manager and model."""

    config: PartnerfacePipelineConfig
    datamanager: PartnerfaceDataManager
    model: PartnerfaceModel

    def __init__(self, config: PartnerfacePipelineConfig, device: Any, **kwargs: Any) -> None:
        program = parse_command(sys.argv)
        _require_possible_export(*program)
        super().__init__(_replace_missing_capture(config, *program), device, **kwargs)
        provide_ffmpeg()
        self.model.image_renderer.fast = self.test_mode != "val"
        self._name_folders()
        if config.run_folder is not None:
            self.model.head_controls.use_folder(config.run_folder)
            self.model.animation.use_folder(config.run_folder)

    def _name_folders(self) -> None:
        """Name the viewer's folders of controls. nerfstudio takes the shortest path of attributes to each control."""
        self.add_module("Animation", self.model.animation)
        self.add_module("Expression", self.model.head_controls)
        self.add_module("View", self.model.page_view)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The weights under the same names whether one process trains or several, which wrap the model."""
        state = super().state_dict(*args, **kwargs)
        return {key.replace("_model.module.", "_model.", 1): value for key, value in state.items()}

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """Load all weights of a checkpoint or none, unlike nerfstudio.

        Raises:
            InputError: the checkpoint belongs to other settings or to another head model.
        """
        source = self.config.run_folder or "checkpoint"
        prefix = "_model."
        state = {key[len(prefix) :]: value for key, value in loaded_state.items() if key.startswith(prefix)}
        state.setdefault("progress", torch.tensor(0.0, dtype=torch.float64))  # runs of earlier versions lack it
        try:
            self.model.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise InputError(source, "the checkpoint does not fit these settings", actual=error) from error
        avatar = self.model.avatar
        check_same_head_model(source, avatar.state_dict(), avatar.head.model)

    def get_average_eval_image_metrics(
        self, step: int | None = None, output_path: Path | None = None, get_std: bool = False
    ) -> dict[str, float | str]:
        """Mean metrics of all evaluation images. The values of each image go to a CSV in the run folder.

        ns-eval also gets this CSV beside its result, and the name of the split. A region's mean is over the images that
        show the region.

        Args:
            step: unused.
            output_path: folder for rendered images; None writes none.
            get_std: whether to add standard deviations, which are 0 for a single image.
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
        means: dict[str, float | str] = {name: _mean(v) for name, v in values.items()}
        if result is not None:
            dataparser = self.datamanager.config.dataparser
            assert isinstance(dataparser, FlameDataParserConfig)
            means["split"] = dataparser.split or CAPTURES_OWN_SPLIT
        return means | ({f"{name}_std": _std(v) for name, v in values.items()} if get_std else {})

    def evaluate(self, indices: Sequence[int] | None = None, output_path: Path | None = None) -> list[dict[str, Any]]:
        """Values of evaluation images, one row each. The pipeline stays in evaluation mode.

        With all images, the rows also go to the run folder's CSV, if it can be written.

        Args:
            indices: indices of the images; None evaluates all.
            output_path: folder for rendered images; None writes none.

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
                print(f"{path}: not written ({error.strerror}). The printed figures are complete.")
        return rows

    def weights_digest(self) -> str:
        """A hash of the model's state dict."""
        digest = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def _evaluate(self, indices: Sequence[int], output_path: Path | None) -> Iterable[dict[str, Any]]:
        loader, weights = self.datamanager.fixed_indices_eval_dataloader, self.weights_digest()
        lpips = self._lpips()
        for index in progress(indices, "Evaluating"):
            camera, batch = loader.get_camera(index)
            start = synchronized_seconds(self.device)
            outputs = self.model.get_outputs_for_camera(camera, exact=True)
            seconds = synchronized_seconds(self.device) - start
            metrics, images = self.model.get_image_metrics_and_images(outputs, batch, lpips)
            if output_path is not None:
                _write_images(output_path, images, index)
            frame: Frame = batch["frame"]
            name = self.datamanager.eval_dataset.image_filenames[index].name
            speed = {"num_rays_per_sec": outputs["rgb"][..., 0].numel() / seconds, "fps": 1 / seconds}
            labels = {"image": name, "timestep": frame.timestep, "camera": frame.camera_index, "weights": weights}
            yield labels | metrics | speed

    def _lpips(self) -> Any:
        from partnerface_ns.rendering.metrics import load_lpips

        lpips, reason = load_lpips()
        if reason is not None:
            print(f"No lpips: {reason}")
        return lpips


def _require_possible_export(program: str, subcommand: str) -> None:
    """Refuse subcommands of ns-export that cannot work with an avatar, before the run is loaded.

    Raises:
        InputError: names the subcommands that work.
    """
    if program == "ns-export" and subcommand not in _EXPORTS:
        raise InputError(
            f"ns-export {subcommand}",
            "an avatar cannot be exported this way, because its density moves with the head",
            expected="ns-export tsdf, ns-export cameras, or partnerface export (meshes, parts, head states)",
        )


def _replace_missing_capture(
    config: PartnerfacePipelineConfig, program: str, subcommand: str
) -> PartnerfacePipelineConfig:
    """The configuration with the run's avatar file as data, if the capture is missing and the command needs none."""
    data = config.datamanager.data or config.datamanager.dataparser.data
    avatar = None if config.run_folder is None else config.run_folder / AVATAR_NAME
    needs_capture = not {program, subcommand} & set(_COMMANDS_WITHOUT_CAPTURE)
    if needs_capture or data.exists() or avatar is None or not avatar.is_file():
        return config
    print(f"{data}: the capture is missing. {avatar} is shown with a neutral face, without tracked frames.")
    dataparser = replace(config.datamanager.dataparser, data=avatar)
    return replace(config, datamanager=replace(config.datamanager, data=None, dataparser=dataparser))


def _ns_eval_result(arguments: Sequence[str]) -> Path | None:
    """The file to which ns-eval writes its result. ns-eval does not pass it to the pipeline."""
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
    for name, image in images.items():
        save_image(folder / f"eval_{name}_{index:04d}.png", to_image(image))


def _mean(values: Float[np.ndarray, "images"]) -> float:
    finite = values[~np.isnan(values)]
    return float(finite.mean()) if finite.size else math.nan


def _std(values: Float[np.ndarray, "images"]) -> float:
    finite = values[~np.isnan(values)]
    return float(finite.std(ddof=1)) if finite.size > 1 else 0.0
