"""What a benchmark's folder holds: bench.json to go on from, bench.md to read, and a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from partnerface_ns.bench.driving import Driven, Quality, Speed
from partnerface_ns.bench.scaling import StepCost, StepTimes
from partnerface_ns.bench.tables import COLUMNS, driving_table, runs_table, several_times, steps_table, time_plot
from partnerface_ns.bench.training_runs import Outcome
from partnerface_ns.bench.variants import VARIANTS
from partnerface_ns.common.atomic import write_text
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.json_file import finite_or_null

_HEAD = """# Benchmarks

Made by `partnerface bench`, which writes this page and the figures behind it (bench.json). Ran on: {machines}.
"""
_RUNS = """## Quality on images that training did not show

A row's runs have the same seconds of training steps, of one thread's own time on a CPU and of the clock on a GPU;
reading images and measuring do not count. The means are over images spread evenly over those held out: *test* is
the test split, which holds expressions and poses that training does not, *tune* the last fifth of the training frames,
which that run was then not trained on; *test, trained on* is the test split again, after training on it too. *head,
trained on* is psnr_head of half as many images that the run was trained on: the gap is what is lost by generalising.
Deviations are over seeds.

PSNR is that of the mean squared error over a region's pixels, in dB. The head is the convex hull of its vertices
above the neck, grown by 5% of its height; mouth and eyes are boxes grown by 20%. Memory is a GPU's, or on a CPU the
process's.

`two-stage` is the method (`full` its preset for a GPU, all others the lite one), `hard` and `soft` keep one assignment
throughout, `global` has one deformation network of as many parameters, `none` no deformation at all (skinning only, as
INSTA), `no skinning` moves with the skull and tells one network the expression, as NerFace, and `dense` asks every part
for every point, in single precision, at 64 even samples. Settings and learning rates are the method's but for what
the name says; other names stand for what they say (bench/variants.py).
"""
_DRIVING = """## Images many times as fast

Driving, ns-render and ns-viewer show a prepared avatar; evaluation follows every sample. Seconds an image, medians
of moments of a face that speaks, all ways in turns; *in a sequence* is several at once, as `partnerface drive` draws
them. The metrics are over the same images of the test split both ways.
"""
_STEPS = """## What a step takes, and what it grows with

The lite preset in its soft stage, all settings in turns on the same machine: the ratios are the result. A capture of
few frames takes a little less, because its moments come again within these steps and are remembered.
"""

_METRICS = ("metrics", "seen")
"""Fields of a run that hold metrics."""


@dataclass
class Results:
    """Of all that was ever run into one folder."""

    runs: list[Outcome] = field(default_factory=list)
    driven: list[Driven] = field(default_factory=list)
    steps: list[StepTimes] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path) -> Results:
        """What the folder holds so far; nothing where there is no folder.

        Raises:
            InputError: its bench.json is another version's, or none.
        """
        path = folder / "bench.json"
        if not path.is_file():
            return cls()
        try:
            held = json.loads(path.read_text(encoding="utf8"))
            runs = [Outcome(**row | {key: _measured(row[key]) for key in _METRICS}) for row in held["runs"]]
            driven = [_driven(row) for row in held["driven"]]
            steps = [StepTimes(**row | {"costs": [StepCost(**cost) for cost in row["costs"]]}) for row in held["steps"]]
            for run in runs:
                _ = VARIANTS[run.variant], [run.metrics[name] for name in COLUMNS], run.seen["psnr_head"]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                path,
                "not what this version of the benchmark writes",
                expected="runs, driven and steps, each with all of its fields",
                found=f"{type(error).__name__}: {error}",
                hint="give another --output",
            ) from error
        return cls(runs, driven, steps)

    def add(self, row: Outcome | Driven | StepTimes) -> None:
        """In place of the same run, or of the same avatar's or capture's times on the same machine."""
        rows = {Outcome: self.runs, Driven: self.driven, StepTimes: self.steps}[type(row)]
        rows[:] = [other for other in rows if other.key != row.key] + [row]

    def write(self, folder: Path) -> None:
        """bench.json, bench.md, and bench.png where some variant was run for several times."""
        order = list(VARIANTS)
        self.runs.sort(key=lambda o: (o.subject, o.seconds, order.index(o.variant), o.seed))
        kinds = {"runs": self.runs, "driven": self.driven, "steps": self.steps}
        listed = (f'"{name}": [\n{_lines(rows)}\n]' for name, rows in kinds.items())
        write_text(folder / "bench.json", "{" + ",\n".join(listed) + "}\n")
        write_text(folder / "bench.md", self.report())
        if several_times(self.runs):
            time_plot(self.runs, folder / "bench.png")

    def report(self) -> str:
        """All of it as one page of markdown."""
        machines = sorted({row.device for rows in (self.runs, self.driven, self.steps) for row in rows})
        pages = [_HEAD.format(machines="; ".join(machines))]
        if self.runs:
            pages += [_RUNS, runs_table(self.runs)]
            if several_times(self.runs):
                pages.append("![psnr_head against seconds of training](bench.png)\n")
        if self.driven:
            pages.append(_DRIVING)
            pages += [f"### {_title(d)}\n\n{driving_table(d.speeds, d.quality)}" for d in self.driven]
        if self.steps:
            pages.append(_STEPS)
            pages += [f"### {s.subject}, {s.device}\n\n{steps_table(s.costs, s.pieces)}" for s in self.steps]
        return "\n".join(pages)


def _title(driven: Driven) -> str:
    measured = f"{driven.num_test} images" if driven.quality is not None else ""
    return ", ".join(word for word in (driven.subject, driven.avatar, measured, driven.device) if word)


def _lines(rows: Sequence[Any]) -> str:
    return ",\n".join(json.dumps(finite_or_null(asdict(row)), allow_nan=False) for row in rows)


def _measured(metrics: dict[str, float | None]) -> dict[str, float]:
    """Metrics of a file: null is NaN, for what no image shows."""
    return {name: math.nan if value is None else value for name, value in metrics.items()}


def _driven(row: dict[str, Any]) -> Driven:
    quality = row["quality"]
    return Driven(
        row["subject"],
        row["avatar"],
        row["device"],
        [Speed(**speed) for speed in row["speeds"]],
        None if quality is None else Quality(**{way: _measured(metrics) for way, metrics in quality.items()}),
        row["num_test"],
    )
