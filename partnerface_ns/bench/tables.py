"""A benchmark's results as Markdown tables and a plot."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from partnerface_ns.bench.floor import FloorResult
from partnerface_ns.bench.rendering import Quality, Speed
from partnerface_ns.bench.scaling import StepCost
from partnerface_ns.bench.training_runs import RunResult
from partnerface_ns.capture.names import CAPTURES_OWN_SPLIT
from partnerface_ns.common.atomic import atomic_write

COLUMNS = (
    "psnr",
    "psnr_torso_free",
    "psnr_head",
    "psnr_mouth",
    "psnr_eyes",
    "psnr_outline",
    "ssim_head",
    "lpips_head",
)
"""Metrics in the tables. Results of earlier versions lack some of them."""
LOSS_REGIONS = ("head", "mouth", "eyes", "outline")
"""Regions in the table of losses."""


def runs_table(runs: Sequence[RunResult], floors: Sequence[FloorResult] = ()) -> str:
    """A row for each group of runs that differ only in their seed, with mean and deviation over seeds.

    Rows of the nearest training images follow.
    """
    names = ("subject", "variant", "images", "seeds", "on", "seconds", "steps", "GiB", *COLUMNS, "head, trained on")
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for group in _groups(runs):
        first = group[0]
        images = _images(first)
        machine = "GPU" if first.device.startswith("cuda") else "CPU"
        cells = [first.subject, first.variant, images, f"{len(group)}", machine, f"{first.seconds:g}"]
        cells.append(f"{statistics.mean(run.steps for run in group):.0f}")
        cells.append(f"{max(run.peak_gib for run in group):.1f}")
        cells += [_mean_and_deviation([run.metrics.get(name, math.nan) for run in group]) for name in COLUMNS]
        cells.append(_mean_and_deviation([run.seen["psnr_head"] for run in group]))
        lines.append("| " + " | ".join(cells) + " |")
    for floor in floors:
        cells = [floor.subject, "nearest training image", _images(floor), *"-----"]
        cells += [_mean_and_deviation([floor.metrics.get(name, math.nan)]) for name in COLUMNS]
        lines.append("| " + " | ".join([*cells, "-"]) + " |")
    return "\n".join(lines) + "\n"


def losses_table(runs: Sequence[RunResult]) -> str:
    """A row for each group of runs that differ only in their seed: training, held-out and refitted images."""
    names = ("subject", "variant", "images", "seconds")
    kinds = ("training", "held out", "refitted")
    columns = [f"{region}, {kind}" for region in LOSS_REGIONS for kind in kinds]
    lines = ["| " + " | ".join([*names, *columns]) + " |", "|---" * (len(names) + len(columns)) + "|"]
    for group in _groups(runs):
        first = group[0]
        cells = [first.subject, first.variant, _images(first), f"{first.seconds:g}"]
        for region in LOSS_REGIONS:
            for metrics in ([run.seen for run in group], [run.metrics for run in group], [r.refitted for r in group]):
                values = [math.nan if m is None else m.get(f"psnr_{region}", math.nan) for m in metrics]
                cells.append("-" if any(map(math.isnan, values)) else f"{statistics.mean(values):.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _groups(runs: Sequence[RunResult]) -> list[list[RunResult]]:
    """Runs that differ only in their seed."""
    groups: dict[tuple[object, ...], list[RunResult]] = {}
    for run in runs:
        machine = run.device.startswith("cuda")
        kind = (run.subject, run.seconds, run.variant, run.held_out, run.split, machine, run.num_test)
        groups.setdefault(kind, []).append(run)
    return list(groups.values())


def _images(row: RunResult | FloorResult) -> str:
    split = "" if row.split == CAPTURES_OWN_SPLIT else f"{row.split} "
    return f"{row.num_test} of {split}{'test, trained on' if row.held_out == 'none' else row.held_out}"


def has_time_plot(runs: Sequence[RunResult]) -> bool:
    """Whether any variant was trained for several times, so that `draw_time_plot` has something to draw."""
    return bool(_psnr_by_time(runs))


def _psnr_by_time(runs: Sequence[RunResult]) -> dict[str, dict[str, dict[float, list[float]]]]:
    """psnr_head by subject, variant and seconds, of the variants that were trained for several times."""
    psnr: dict[str, dict[str, dict[float, list[float]]]] = {}
    for run in runs:
        machine = "GPU" if run.device.startswith("cuda") else "CPU"
        by_time = psnr.setdefault(run.subject, {}).setdefault(
            f"{run.variant}, {run.split} {run.held_out}, {machine}", {}
        )
        by_time.setdefault(run.seconds, []).append(run.metrics["psnr_head"])
    several = {s: {v: times for v, times in lines.items() if len(times) > 1} for s, lines in psnr.items()}
    return {subject: lines for subject, lines in several.items() if lines}


def draw_time_plot(runs: Sequence[RunResult], path: Path) -> None:
    """Draw psnr_head over training time: a panel per subject, a line per variant, bars for the deviation over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    psnr = _psnr_by_time(runs)
    variants = dict.fromkeys(variant for lines in psnr.values() for variant in lines)
    colors = {variant: f"C{i}" for i, variant in enumerate(variants)}
    handles = {}
    size = (4.5 * len(psnr) + 1.5, 4.5)
    figure, (panels,) = plt.subplots(1, len(psnr), figsize=size, layout="constrained", squeeze=False)
    for axes, (subject, lines) in zip(panels, psnr.items(), strict=True):
        for variant, by_time in lines.items():
            times = sorted(by_time)
            means = [statistics.mean(by_time[t]) for t in times]
            deviations = [statistics.stdev(by_time[t]) if len(by_time[t]) > 1 else 0.0 for t in times]
            handles[variant] = axes.errorbar(times, means, deviations, marker="o", capsize=3, color=colors[variant])
        axes.set(title=subject, xlabel="seconds of training")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("psnr_head of images not trained on, dB")
    figure.legend(handles.values(), handles.keys(), loc="outside right center")
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=100)
    plt.close(figure)


def rendering_table(speeds: Sequence[Speed], quality: Quality | None) -> str:
    """Seconds per image by size: exact, fast, and fast in a sequence. The metrics follow if they were measured."""
    lines = ["| longer side | seconds exact | seconds fast | times as fast | seconds fast, in a sequence |"]
    lines.append("|---" * 5 + "|")
    lines += [
        f"| {s.size} | {s.exact:.2f} | {s.fast:.3f} | {s.exact / s.fast:.1f} | {s.sequence:.3f} |" for s in speeds
    ]
    if quality is not None:
        lines += ["", "| images | " + " | ".join(COLUMNS) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
        for name, metrics in (("exact", quality.exact), ("fast", quality.fast)):
            cells = (metrics.get(column, math.nan) for column in COLUMNS)
            lines.append(f"| {name} | " + " | ".join("-" if math.isnan(x) else f"{x:.3f}" for x in cells) + " |")
    return "\n".join(lines) + "\n"


def steps_table(costs: Sequence[StepCost], pieces: Mapping[str, float]) -> str:
    """Cost of a step by setting, and the share of each piece of a step."""
    lines = ["| what changes | value | milliseconds per step | ratio |", "|---|---|---|---|"]
    lines += [f"| {c.changed} | {c.value} | {c.milliseconds:.1f} | {c.ratio:.2f} |" for c in costs]
    lines += ["", "| piece of a step on the CPU | share |", "|---|---|"]
    lines += [f"| {name} | {100 * share:.0f}% |" for name, share in pieces.items()]
    return "\n".join(lines) + "\n"


def _mean_and_deviation(values: Sequence[float]) -> str:
    if any(math.isnan(value) for value in values):
        return "-"
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
