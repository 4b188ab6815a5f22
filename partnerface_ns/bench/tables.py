"""The benchmark's results as a markdown table: mean and spread over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from partnerface_ns.bench.training_runs import Outcome

COLUMNS = ("psnr", "psnr_head", "psnr_mouth", "psnr_eyes", "ssim_head")


def ablation_table(outcomes: Sequence[Outcome]) -> str:
    """A row for each subject and variant, in the order in which they came; mean, and standard deviation over seeds."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.subject, outcome.variant), []).append(outcome)
    lines = [
        "| subject | variant | seeds | steps | " + " | ".join(COLUMNS) + " |",
        "|---" * (4 + len(COLUMNS)) + "|",
    ]
    for (subject, variant), group in groups.items():
        steps = round(statistics.mean(outcome.steps for outcome in group))
        cells = [_mean_and_spread([outcome.metrics[name] for outcome in group]) for name in COLUMNS]
        lines.append(f"| {subject} | {variant} | {len(group)} | {steps} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _mean_and_spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
