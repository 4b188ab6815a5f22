"""Trained runs of nerfstudio: opening a run, its evaluation, and the images of its test split."""

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
"""Columns of a sheet of test images."""


@dataclass(frozen=True)
class Run:
    """A trained run, opened on its test split."""

    folder: Path
    pipeline: PartnerfacePipeline

    def figures(self, indices: Sequence[int]) -> list[dict[str, str]]:
        """Metrics of test images, one row each. The last evaluation is used if the weights have not changed since.

        An evaluation of only some images is not written to the run's CSV.

        Args:
            indices: the test images.
        """
        from partnerface_ns.plugin.pipeline import PER_IMAGE_NAME

        path, names = self.folder / PER_IMAGE_NAME, self.image_names()
        weights = self.pipeline.weights_digest()
        if path.is_file():
            rows = _read_csv(path)
            evaluated = [(row.get("image"), row.get("weights")) for row in rows]
            if evaluated == [(name, weights) for name in names]:
                return [rows[index] for index in indices]
        print(f"Evaluating {len(indices)} of {len(names)} test images", flush=True)
        some = indices if len(indices) < len(names) else None
        return [{name: str(value) for name, value in row.items()} for row in self.pipeline.evaluate(some)]

    def image_names(self) -> list[str]:
        """File names of the test images."""
        return [path.name for path in self.pipeline.datamanager.eval_dataset.image_filenames]

    def show(self, index: int, exact: bool = True) -> dict[str, Tensor]:
        """The true image (`truth`) and all outputs of a test image, (height, width, channels) in [0, 1].

        Args:
            index: the test image.
            exact: whether to render all samples, or the baked avatar.
        """
        dataset = self.pipeline.datamanager.eval_dataset
        outputs = self.pipeline.model.get_outputs_for_camera(dataset.cameras[index : index + 1], exact=exact)
        truth = self.pipeline.model.true_image(dataset[index])
        return {"truth": truth, **{name: value.cpu() for name, value in outputs.items()}}

    def orbit(self, longer_side: int) -> dict[str, Tensor]:
        """The neutral face in the views of `rendering/orbit.py`, (height, width, 3) in [0, 1].

        Args:
            longer_side: of the images, pixels.
        """
        import torch

        from partnerface_ns.common.progress import progress
        from partnerface_ns.flame.joints import Joint
        from partnerface_ns.flame.neutral import measure_neutral
        from partnerface_ns.flame.state import HeadState
        from partnerface_ns.rendering.orbit import orbit_cameras
        from partnerface_ns.rendering.rays import rays_of_image

        avatar, capture = self.pipeline.model.avatar, self.pipeline.datamanager.eval_dataset.parsed.capture
        device, head = avatar.identity.device, avatar.head
        state = measure_neutral(capture.states_of("train"), head.model)
        posed = head.pose(state.to(device))
        verts = posed.verts[head.model.regions["head"] > 0.5].cpu().double().numpy()
        rotation = posed.T_world_rest[Joint.NECK, :3, :3].cpu().double().numpy()
        cameras = orbit_cameras(capture.frames_of("train")[0].camera, verts, rotation, longer_side)
        images = {}
        with torch.no_grad():
            for name, camera in progress(cameras.items(), "Rendering", len(cameras)):
                rgb = avatar.render(rays_of_image(camera, device), HeadState.stack([state.to(device)])).rgb
                images[name] = rgb.cpu().view(camera.height, camera.width, 3)
        return images

    def losses(self, num: int) -> tuple[int, dict[str, float], dict[str, float], dict[str, float]]:
        """Mean metrics of training images, test images and the same test images refitted (`training/refit.py`).

        The learned residuals of training frames are left out in all of them.

        Args:
            num: images of each kind at most, evenly spread.

        Returns:
            The number of test images, and the metrics.
        """
        from partnerface_ns.bench.training_runs import measure
        from partnerface_ns.common.sequences import pick_evenly
        from partnerface_ns.plugin.dataparser import scale_frame
        from partnerface_ns.training.refit import Refitter

        dataset, avatar = self.pipeline.datamanager.eval_dataset, self.pipeline.model.avatar
        capture, head = dataset.parsed.capture, avatar.head
        seen = [scale_frame(frame, dataset.metadata["scale"]) for frame in capture.frames_of("train")]
        test, train = pick_evenly(dataset.frames, num), pick_evenly(seen, num)
        refitter = Refitter(avatar.eval(), capture.states_of("train"))
        training, _ = measure(avatar, capture, head, train)
        held_out, _ = measure(avatar, capture, head, test)
        refitted, _ = measure(avatar, capture, head, test, refitter)
        return len(test), training, held_out, refitted


def open_run(run: Path, data: Path | None = None, head_model: Path | None = None) -> Run:
    """Load a run's newest complete checkpoint on its test split. No code in the run's files is executed.

    Args:
        run: the run folder, or the `config.yml` in it.
        data: the capture's folder, if it was moved since training.
        head_model: the head model's file, if it was moved since training.

    Raises:
        InputError: there is no such run, it belongs to another method, or it has no complete checkpoint.
    """
    config_path = run if run.is_file() else run / "config.yml"
    if not config_path.is_file():
        content = "a folder without config.yml" if run.is_dir() else "nothing"
        raise InputError(run, "not a run", expected="a folder with config.yml, or that file", actual=content)
    # Importing the plugin prepares the process for nerfstudio, so it comes before torch.
    from partnerface_ns.plugin.config_file import read_config
    from partnerface_ns.plugin.dataparser import FlameDataParserConfig

    import torch  # isort: skip

    config = read_config(config_path)
    checkpoint = config.open_run(config_path.parent)
    if data is not None:
        config.pipeline.datamanager.data = data.resolve()
    if head_model is not None:
        dataparser = config.pipeline.datamanager.dataparser
        assert isinstance(dataparser, FlameDataParserConfig)
        dataparser.head_model = head_model.resolve()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pipeline = config.pipeline.setup(device=device, test_mode="test")
    pipeline.eval()
    pipeline.load_pipeline(checkpoint.content["pipeline"], checkpoint.step)
    return Run(config_path.parent, pipeline)


def shown_row(images: dict[str, Tensor]) -> list:
    """The images of `Run.show` in the order of `COLUMNS`."""
    from partnerface_ns.rendering.figures import show_error, tint_gray, to_image

    rgb, truth = images["rgb"], images["truth"]
    parts = tint_gray(rgb, images["parts"], images["accumulation"])
    return [to_image(truth), to_image(rgb), show_error(rgb, truth), parts]


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))
