"""`partnerface demo`: an avatar of the built-in synthetic person, from images to measured quality.

The command writes this folder:

- subject/: the person's capture
- runs/partnerface-lite/demo/: a nerfstudio run
- test/: the measured test images, each beside the rendered one, with error, parts and deformation
- summary.json, side_by_side.png, parts.png, unseen.mp4
- demo.json: the options, and the seconds spent so far
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from partnerface_ns.common.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from partnerface_ns.cli.resumable import ResumableFolder
    from partnerface_ns.cli.runs import Run
    from partnerface_ns.plugin.trainer import PartnerfaceTrainerConfig

RUN_NAME = "demo"
NUM_MEASURED = 20
"""Test images that are measured, evenly spread over the test split."""
NUM_SHOWN = 4
"""Test images in side_by_side.png, evenly spread over the test split."""
METRICS = ("psnr", "psnr_torso_free", "psnr_head", "psnr_mouth", "psnr_eyes", "psnr_outline", "ssim_head")


@dataclass
class Demo:
    """Train an avatar of a synthetic person and measure it on expressions and poses that it was not trained on.

    Writes a nerfstudio run, summary.json, side_by_side.png, parts.png and unseen.mp4. If stopped by Ctrl-C, the same
    command continues where it stopped.
    """

    output: Path
    """Folder to write: new, empty, or that of a stopped demo."""
    minutes: float = 9.0
    """Minutes of training."""
    frames: int = 300
    """Images of the person; 70% of them are for training."""
    size: int = 256
    """Width and height of the images, pixels."""
    seed: int = 0
    """Seed of the person and of the training."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to train on; auto takes the GPU if there is one."""

    def __call__(self) -> None:
        from partnerface_ns.cli.avatars import usable_device
        from partnerface_ns.common.locks import lock_folder

        began, device = time.monotonic(), usable_device(self.device)
        if not self.minutes > 0:
            raise InputError("--minutes", "out of range", expected="more than 0", actual=self.minutes)
        self._place.claim()
        with lock_folder(self.output):
            self._complete(device, began)
        self._print_summary()

    def _complete(self, device: str, began: float) -> None:
        """Do what is not finished yet, and record the seconds spent."""
        spent = self._seconds_spent()
        try:
            with self._place.announce_stop():
                if not self._summary_path.exists():
                    self._run(device, lambda: spent + time.monotonic() - began)
        finally:
            self._write_state(spent + time.monotonic() - began)

    # -- steps ---------------------------------------------------------------------------------------------------

    def _run(self, device: str, seconds: Callable[[], float]) -> None:
        """Run all steps.

        Args:
            device: the device to train on.
            seconds: gives the seconds spent so far.
        """
        config = self._training_config(device)
        self._make_subject()
        self._train(config)
        from partnerface_ns.cli.runs import open_run
        from partnerface_ns.common.sequences import pick_evenly
        from partnerface_ns.rendering.metrics import mean_metrics

        run = open_run(config.get_base_dir())
        measured = pick_evenly(range(len(run.image_names())), NUM_MEASURED)
        _announce(f"Evaluating {len(measured)} of {len(run.image_names())} test images")
        rows = run.pipeline.evaluate(measured, self.output / "test")
        means = mean_metrics([{name: row[name] for name in METRICS} for row in rows])
        self._write_images(run)
        summary = {
            **means,
            "num_test_images": len(measured),
            "train_seconds": float(run.pipeline.model.trained_seconds),
            "total_seconds": seconds(),
            "device": config.machine.device_type,
            "num_parts": run.pipeline.model.avatar.config.num_parts,
            "seed": self.seed,
        }
        from partnerface_ns.common.json_file import write_json

        write_json(self._summary_path, summary)

    def _training_config(self, device: str) -> PartnerfaceTrainerConfig:
        from partnerface_ns.cli.training import training_config

        _announce("Starting nerfstudio")
        return training_config(self.output / "subject", self.output, RUN_NAME, self.minutes, device, self.seed)

    def _make_subject(self) -> None:
        from partnerface_ns.demo.subject import make_subject

        folder = self.output / "subject"
        if not folder.exists():
            _announce("Making the synthetic person")
            make_subject(folder, frames=self.frames, size=self.size, seed=self.seed)

    def _train(self, config: PartnerfaceTrainerConfig) -> None:
        from partnerface_ns.cli.training import train

        _announce(f"Training for {self.minutes:g} minutes on {config.machine.device_type}")
        train(config)

    def _write_images(self, run: Run) -> None:
        from partnerface_ns.cli.runs import COLUMNS, shown_row
        from partnerface_ns.demo.performance import SECONDS
        from partnerface_ns.rendering.figures import arrange_sheet, save_clip, save_image

        _announce("Writing side_by_side.png, parts.png and unseen.mp4")
        num = len(run.image_names())
        chosen = sorted({round((i + 0.5) / NUM_SHOWN * num - 0.5) for i in range(NUM_SHOWN)})
        rows = [shown_row(run.show(i)) for i in chosen]
        across = [list(column) for column in zip(*rows, strict=True)]
        names = [run.image_names()[i] for i in chosen]
        save_image(self.output / "side_by_side.png", arrange_sheet(across[:3], names, COLUMNS[:3]))
        save_image(self.output / "parts.png", arrange_sheet([across[1], across[3]], names, ("ours", "parts")))
        save_clip(self.output / "unseen.mp4", _clip_images(run), fps=self.frames / SECONDS)

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def _summary_path(self) -> Path:
        return self.output / "summary.json"

    def _options(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "output"}

    @property
    def _place(self) -> ResumableFolder:
        from partnerface_ns.cli.resumable import ResumableFolder

        return ResumableFolder(self.output, "demo")

    def _seconds_spent(self) -> float:
        """Seconds that a stopped demo in the folder took.

        Raises:
            InputError: the folder holds a demo with other options.
        """
        record = self._place.read()
        if record is None:
            self._write_state(0.0)
            return 0.0
        if (self.output / "subject").exists():
            self._place.require_same_options(record.values.get("options"), self._options())
        return record.number("seconds", 0.0, 1e9)

    def _write_state(self, seconds: float) -> None:
        self._place.write({"options": self._options(), "seconds": round(seconds, 1)})

    def _print_summary(self) -> None:
        from partnerface_ns.cli.training import run_folder
        from partnerface_ns.common.command_lines import command, commands_after_training

        summary = json.loads(self._summary_path.read_text(encoding="utf8"))
        print(f"\nQuality on unseen expressions and poses ({self.output}):")
        width = max(map(len, summary)) + 2
        print("".join(f"  {name:{width}}{_rounded(value)}\n" for name, value in summary.items()))
        print("Look at side_by_side.png, parts.png and unseen.mp4. Next:")
        run = run_folder(self.output, RUN_NAME)
        print("".join(f"  {line}\n" for line in commands_after_training(run)), end="")
        print("With your own tracked video (docs/quickstart.md):")
        print(f"  {command('ns-train', 'partnerface-lite', '--data', 'YOUR_FOLDER', '--max-train-minutes', '10')}")


def _clip_images(run: Run) -> Iterator[np.ndarray]:
    """All test images in order: the true image beside that of the baked avatar."""
    import numpy as np

    from partnerface_ns.common.progress import progress
    from partnerface_ns.rendering.figures import to_image

    for index in progress(range(len(run.image_names())), "Rendering the clip"):
        images = run.show(index, exact=False)
        yield np.concatenate([to_image(images["truth"]), to_image(images["rgb"])], axis=1)


def _rounded(value: Any) -> str:
    return "not measured" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _announce(text: str) -> None:
    print(f"\n== {text}", flush=True)
