"""Trained runs of nerfstudio: finding one, opening it, its pictures and every picture's figures."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from partnerface_ns.errors import SubjectError

if TYPE_CHECKING:
    from torch import Tensor

    from partnerface_ns.plugin.pipeline import PartnerfacePipeline

COLUMNS = ("truth", "ours", "error", "parts")
"""What a shown frame consists of."""


@dataclass(frozen=True)
class Run:
    """A trained run, opened for its test split."""

    config_path: Path
    pipeline: PartnerfacePipeline

    @property
    def folder(self) -> Path:
        return self.config_path.parent

    def evaluate(self, pictures: Path | None = None) -> dict[str, float]:
        """Mean metrics of the test split; every picture's go to the run's CSV.

        Args:
            pictures: folder for the rendered pictures, if they are wanted.
        """
        means = self.pipeline.get_average_eval_image_metrics(output_path=pictures)
        self.pipeline.eval()  # nerfstudio leaves a pipeline that was evaluated in training mode
        return means

    def figures(self, indices: Sequence[int]) -> list[dict[str, str]]:
        """A row for each of some test pictures: the last evaluation's, or a new one's where training went on since.

        An evaluation of some pictures alone is not kept.
        """
        from partnerface_ns.plugin.pipeline import PER_IMAGE_NAME

        path, names = self.folder / PER_IMAGE_NAME, self.picture_names()
        trained = max(checkpoint.stat().st_mtime for checkpoint in _checkpoints(self.folder))
        if path.is_file() and path.stat().st_mtime >= trained:
            rows = _read_csv(path)
            if [row.get("image") for row in rows] == names:
                return [rows[index] for index in indices]
        print(f"Evaluating {len(indices)} of {len(names)} test images", flush=True)
        if len(indices) < len(names):
            return [{key: str(value) for key, value in row.items()} for row in self.pipeline.evaluate(indices)]
        self.evaluate()
        return _read_csv(path)

    def picture_names(self) -> list[str]:
        return [path.name for path in self.pipeline.datamanager.eval_dataset.image_filenames]

    def show(self, index: int) -> dict[str, Tensor]:
        """Truth and all outputs of a test picture, (height, width, channels) in [0, 1]."""
        dataset = self.pipeline.datamanager.eval_dataset
        outputs = self.pipeline.model.get_outputs_for_camera(dataset.cameras[index : index + 1], exact=True)
        return {"truth": dataset[index]["image"], **{name: value.cpu() for name, value in outputs.items()}}


def open_run(run: Path) -> Run:
    """Load a run's newest checkpoint for its test split.

    Args:
        run: the run's folder, or the `config.yml` in it.

    Raises:
        SubjectError: there is no such run, it is another method's, or was stopped before its first checkpoint.
    """
    config_path = run if run.is_file() else run / "config.yml"
    if not config_path.is_file():
        raise SubjectError(run, "not a run", expected="a folder with config.yml, or that file", found=_found(run))
    if not _checkpoints(config_path.parent):
        raise SubjectError(config_path.parent, "the run has no checkpoint", expected="nerfstudio_models/step-*.ckpt")
    from partnerface_ns.plugin.pipeline import PartnerfacePipeline  # first: it prepares the process for nerfstudio

    from nerfstudio.utils.eval_utils import eval_setup  # isort: skip

    config, pipeline, _, _ = eval_setup(config_path, test_mode="test")
    if not isinstance(pipeline, PartnerfacePipeline):
        raise SubjectError(config_path, "a run of another method", expected="partnerface", found=config.method_name)
    pipeline.config.run_folder = config_path.parent.resolve()
    return Run(config_path, pipeline)


def shown_row(images: dict[str, Tensor]) -> list:
    """A shown frame's pictures in the order of `COLUMNS`."""
    from partnerface_ns.rendering.figures import heat, tinted, to_picture

    rgb, truth = images["rgb"], images["truth"]
    parts = tinted(rgb, images["parts"], images["accumulation"])
    return [to_picture(truth), to_picture(rgb), heat(rgb, truth), parts]


def _checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "nerfstudio_models").glob("step-*.ckpt"))


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


def _found(run: Path) -> str:
    return "a folder without it" if run.is_dir() else "nothing"
