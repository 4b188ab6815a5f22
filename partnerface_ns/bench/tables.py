"""The benchmark's results as markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from partnerface_ns.bench.driving import Quality, Speed
from partnerface_ns.bench.training_runs import Outcome

COLUMNS = ("psnr", "psnr_head", "psnr_mouth", "psnr_eyes", "ssim_head")


def ablation_table(outcomes: Sequence[Outcome]) -> str:
    """A row for each subject, time and variant, in the order in which they came; mean and deviation over seeds."""
    groups: dict[tuple[str, float, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.subject, outcome.seconds, outcome.variant), []).append(outcome)
    on_gpu = any(outcome.peak_gib is not None for outcome in outcomes)
    columns = ["subject", "variant", "seeds", "seconds", "steps", *(["GPU memory, GiB"] if on_gpu else []), *COLUMNS]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for (subject, seconds, variant), group in groups.items():
        cells = [subject, variant, f"{len(group)}", f"{seconds:g}"]
        cells.append(f"{statistics.mean(outcome.steps for outcome in group):.0f}")
        if on_gpu:
            cells.append(f"{max(outcome.peak_gib or 0.0 for outcome in group):.1f}")
        cells += [_mean_and_spread([outcome.metrics[name] for outcome in group]) for name in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    machines = sorted({outcome.device for outcome in outcomes})
    return "\n".join(lines) + f"\n\nTrained on: {', '.join(machines)}.\n"


def driving_table(speeds: Sequence[Speed], quality: Quality | None) -> str:
    """Seconds a picture by size, exact and fast; below it the metrics of both, where they were measured."""
    lines = ["| longer side | seconds exact | seconds fast | times as fast |", "|---|---|---|---|"]
    lines += [f"| {s.size} | {s.exact:.2f} | {s.fast:.3f} | {s.exact / s.fast:.1f} |" for s in speeds]
    if quality is not None:
        lines += ["", "| pictures | " + " | ".join(COLUMNS) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
        for name, metrics in (("exact", quality.exact), ("fast", quality.fast)):
            lines.append(f"| {name} | " + " | ".join(f"{metrics[column]:.3f}" for column in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def _mean_and_spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
