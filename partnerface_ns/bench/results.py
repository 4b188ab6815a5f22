"""The results in a benchmark's folder: bench.json with all figures, bench.md as a page, and a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from partnerface_ns.bench.floor import FloorResult
from partnerface_ns.bench.rendering import Quality, RenderingResult, Speed
from partnerface_ns.bench.scaling import StepCost, StepTimes
from partnerface_ns.bench.tables import (
    draw_time_plot,
    has_time_plot,
    losses_table,
    rendering_table,
    runs_table,
    steps_table,
)
from partnerface_ns.bench.training_runs import RunResult
from partnerface_ns.bench.variants import VARIANTS
from partnerface_ns.common.atomic import write_text
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.json_file import finite_or_null

_HEAD = """# Benchmarks

Written by `partnerface bench`, with the figures in bench.json. Ran on: {machines}.
"""
_RUNS = """## Quality on images that were not trained on

All runs of a row train for the same time: CPU time of one thread, or wall-clock time on a GPU. Reading images and
measuring do not count. Metrics are means over evenly spread images, and deviations are over seeds. The images are those
of one split:

- *test*: the test split, with expressions and poses that the training split does not contain
- *tune*: the last fifth of the training frames, which these runs do not train on
- *test, trained on*: the test split, after training on it as well

With `--split`, the name of the split precedes these names. Without it, the capture's own split is used:

- *last*: the last 30% of the frames are the test split
- *interleaved*: every fifth frame, whose neighbours are trained on
- *published*: the last 350 frames, or the last fifth of captures with fewer than 1050

*head, trained on* is psnr_head on half as many training images. Its distance from psnr_head is the generalisation gap.

PSNR follows from the mean squared error over the pixels of a region, in dB. The head is the convex hull of its vertices
above the neck, grown by 5% of its height; mouth and eyes are boxes grown by 20%. The outline is the part of the head
within 2% of its height of the foreground's edge. *Torso-free* is the whole image after the torso became white in truth
and result. LPIPS (AlexNet) needs weights that torchvision downloads. Memory is the GPU's, or on a CPU the
process's.

*Nearest training image* is a floor: the training frame with the most similar tracked head, warped by an affine map onto
the head of the test frame.

A variant has the settings and learning rates of the method except for what its name states (bench/variants.py):

- `two-stage` is the method with the lite preset; `full` is the preset for a GPU
- `hard` and `soft` keep one way of assigning points to parts throughout
- `global` has a single deformation network with as many parameters
- `none` has no deformation network, only skinning, as in INSTA
- `no skinning` moves rigidly with the skull and conditions one network on the expression, as in NerFace
- `dense` evaluates every part at every point, in single precision, at 64 uniform samples
"""
_RENDERING = """## Rendering speed

Driving, ns-render and ns-viewer render the baked avatar (*fast*); evaluation follows every sample (*exact*). Times are
medians over frames of a talking face, and the ways of rendering alternate. *In a sequence* renders several images in
parallel, as `partnerface drive` does. The metrics of both ways are over the same test images.
"""
_STEPS = """## Cost of a training step

The lite preset in its soft stage. All settings alternate on the same machine, so the ratios are the result. A capture
with few frames takes slightly less, because its frames repeat within these steps and are cached.
"""

_LOSSES = """### Where the loss is

PSNR of three kinds of images in dB, means over seeds. *Training* images show how well the avatar fits, and the distance
of *held-out* images from them is the generalisation gap. *Refitted* images are the held-out ones after pose and
expression were fitted to their pixels (`--refit`). They have seen the truth, so they are no result of the method. Their
distance from the held-out ones is the registration error.
"""
_METRICS = ("metrics", "seen")
"""Fields of a run that hold metrics."""


@dataclass
class Results:
    """All results in one folder."""

    runs: list[RunResult] = field(default_factory=list)
    renderings: list[RenderingResult] = field(default_factory=list)
    steps: list[StepTimes] = field(default_factory=list)
    floors: list[FloorResult] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Results:
        """Read the results in a folder; empty if there is no bench.json.

        Raises:
            InputError: bench.json is damaged or of another version.
        """
        path = folder / "bench.json"
        if not path.is_file():
            return cls()
        try:
            content = json.loads(path.read_text(encoding="utf8"))
            runs = [_run_result(row) for row in content["runs"]]
            renderings = [_rendering_result(row) for row in content["driven"]]
            steps = [_step_times(row) for row in content["steps"]]
            floors = [
                FloorResult(**row | {"metrics": _without_null(row["metrics"])}) for row in content.get("floors", ())
            ]
            for run in runs:
                _ = VARIANTS[run.variant], run.metrics["psnr_head"], run.seen["psnr_head"]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                path,
                "not written by this version of the benchmark",
                expected="runs, driven and steps, each with all fields",
                actual=f"{type(error).__name__}: {error}",
                hint="choose another --output",
            ) from error
        return cls(runs, renderings, steps, floors)

    def add(self, row: RunResult | RenderingResult | StepTimes | FloorResult) -> None:
        """Add a result; it replaces one with the same key."""
        kinds = {
            RunResult: self.runs,
            RenderingResult: self.renderings,
            StepTimes: self.steps,
            FloorResult: self.floors,
        }
        rows: list[Any] = kinds[type(row)]
        rows[:] = [other for other in rows if other.key != row.key] + [row]

    def write(self, folder: Path) -> None:
        """Write bench.json, bench.md, and bench.png if a variant was trained for several times."""
        order = list(VARIANTS)
        self.runs.sort(key=lambda run: (run.subject, run.seconds, order.index(run.variant), run.seed))
        kinds = {"runs": self.runs, "driven": self.renderings, "steps": self.steps, "floors": self.floors}
        lists = (f'"{name}": [\n{_lines(rows)}\n]' for name, rows in kinds.items())
        write_text(folder / "bench.json", "{" + ",\n".join(lists) + "}\n")
        write_text(folder / "bench.md", self.report())
        if has_time_plot(self.runs):
            draw_time_plot(self.runs, folder / "bench.png")

    def report(self) -> str:
        """All results as one Markdown page."""
        machines = sorted({row.device for rows in (self.runs, self.renderings, self.steps) for row in rows})
        pages = [_HEAD.format(machines="; ".join(machines))]
        if self.runs:
            pages += [_RUNS, runs_table(self.runs, self.floors), _LOSSES, losses_table(self.runs)]
            if has_time_plot(self.runs):
                pages.append("![psnr_head against seconds of training](bench.png)\n")
        if self.renderings:
            pages.append(_RENDERING)
            pages += [f"### {_title(r)}\n\n{rendering_table(r.speeds, r.quality)}" for r in self.renderings]
        if self.steps:
            pages.append(_STEPS)
            pages += [f"### {s.subject}, {s.device}\n\n{steps_table(s.costs, s.pieces)}" for s in self.steps]
        return "\n".join(pages)


def _title(result: RenderingResult) -> str:
    images = f"{result.num_test} images" if result.quality is not None else ""
    return ", ".join(word for word in (result.subject, result.avatar, images, result.device) if word)


def _lines(rows: Sequence[Any]) -> str:
    return ",\n".join(json.dumps(finite_or_null(asdict(row)), allow_nan=False) for row in rows)


def _without_null(metrics: dict[str, float | None]) -> dict[str, float]:
    """Metrics of a file with NaN for null, which stands for a region that no image shows."""
    return {name: math.nan if value is None else value for name, value in metrics.items()}


def _run_result(row: dict[str, Any]) -> RunResult:
    refitted = row.get("refitted")
    values: dict[str, Any] = row | {key: _without_null(row[key]) for key in _METRICS}
    values["refitted"] = None if refitted is None else _without_null(refitted)
    return RunResult(**values)


def _step_times(row: dict[str, Any]) -> StepTimes:
    values: dict[str, Any] = row | {"costs": [StepCost(**cost) for cost in row["costs"]]}
    return StepTimes(**values)


def _rendering_result(row: dict[str, Any]) -> RenderingResult:
    quality = row["quality"]
    return RenderingResult(
        row["subject"],
        row["avatar"],
        row["device"],
        [Speed(**speed) for speed in row["speeds"]],
        None if quality is None else Quality(**{way: _without_null(metrics) for way, metrics in quality.items()}),
        row["num_test"],
    )
