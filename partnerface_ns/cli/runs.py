"""Trained runs of nerfstudio: finding one, opening it, its images and every image's figures."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from partnerface_ns.common.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from partnerface_ns.plugin.pipeline import PartnerfacePipeline

COLUMNS = ("truth", "ours", "error", "parts")
"""What a shown frame consists of."""


@dataclass(frozen=True)
class Run:
    """A trained run, opened for its test split."""

    folder: Path
    pipeline: PartnerfacePipeline

    def evaluate(self, images: Path | None = None) -> dict[str, float]:
        """Mean metrics of the test split; every image's go to the run's CSV.

        Args:
            images: folder for the rendered images, if they are wanted.
        """
        means = self.pipeline.get_average_eval_image_metrics(output_path=images)
        self.pipeline.eval()  # nerfstudio leaves a pipeline that was evaluated in training mode
        return means

    def figures(self, indices: Sequence[int]) -> list[dict[str, str]]:
        """A row for each of some test images: the last evaluation's, or a new one's where the weights changed since.

        An evaluation of some images alone is not kept.
        """
        from partnerface_ns.plugin.pipeline import PER_IMAGE_NAME

        path, names = self.folder / PER_IMAGE_NAME, self.image_names()
        weights = self.pipeline.weights_digest()
        if path.is_file():
            rows = _read_csv(path)
            shown = [(row.get("image"), row.get("weights")) for row in rows]
            if shown == [(name, weights) for name in names]:
                return [rows[index] for index in indices]
        print(f"Evaluating {len(indices)} of {len(names)} test images", flush=True)
        some = indices if len(indices) < len(names) else None
        return [{name: str(value) for name, value in row.items()} for row in self.pipeline.evaluate(some)]

    def image_names(self) -> list[str]:
        return [path.name for path in self.pipeline.datamanager.eval_dataset.image_filenames]

    def show(self, index: int) -> dict[str, Tensor]:
        """Truth and all outputs of a test image, (height, width, channels) in [0, 1]."""
        dataset = self.pipeline.datamanager.eval_dataset
        outputs = self.pipeline.model.get_outputs_for_camera(dataset.cameras[index : index + 1], exact=True)
        return {"truth": dataset[index]["image"], **{name: value.cpu() for name, value in outputs.items()}}


def open_run(run: Path, data: Path | None = None, head_model: Path | None = None) -> Run:
    """Load a run's newest whole checkpoint for its test split; nothing that the run's files say is executed.

    Args:
        run: the run's folder, or the `config.yml` in it.
        data: the capture's folder, where it is no longer where training found it.
        head_model: the head model's file, likewise.

    Raises:
        InputError: there is no such run, it is another method's, or was stopped before its first checkpoint.
    """
    config_path = run if run.is_file() else run / "config.yml"
    if not config_path.is_file():
        raise InputError(run, "not a run", expected="a folder with config.yml, or that file", found=_found(run))
    from partnerface_ns.plugin.config_file import read_config  # the plugin prepares the process for nerfstudio

    import torch  # isort: skip

    config = read_config(config_path)
    checkpoint = config.open_run(config_path.parent)
    if data is not None:
        config.pipeline.datamanager.data = data.resolve()
    if head_model is not None:
        config.pipeline.datamanager.dataparser.head_model = head_model.resolve()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pipeline = config.pipeline.setup(device=device, test_mode="test")
    pipeline.eval()
    pipeline.load_pipeline(checkpoint.content["pipeline"], checkpoint.step)
    return Run(config_path.parent, pipeline)


def shown_row(images: dict[str, Tensor]) -> list:
    """A shown frame's images in the order of `COLUMNS`."""
    from partnerface_ns.rendering.figures import show_error, tint_gray, to_image

    rgb, truth = images["rgb"], images["truth"]
    parts = tint_gray(rgb, images["parts"], images["accumulation"])
    return [to_image(truth), to_image(rgb), show_error(rgb, truth), parts]


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


def _found(run: Path) -> str:
    return "a folder without it" if run.is_dir() else "nothing"
