"""The benchmark's results as markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from partnerface_ns.bench.driving import Quality, Speed
from partnerface_ns.bench.scaling import StepCost
from partnerface_ns.bench.training_runs import Outcome
from partnerface_ns.common.atomic import atomic_write

COLUMNS = ("psnr", "psnr_head", "psnr_mouth", "psnr_eyes", "ssim_head")


def runs_table(outcomes: Sequence[Outcome]) -> str:
    """A row for each subject, time, variant and kind of run, in the order in which they came; mean and deviation over
    seeds.
    """
    groups: dict[tuple[object, ...], list[Outcome]] = {}
    for o in outcomes:
        groups.setdefault(
            (o.subject, o.seconds, o.variant, o.held_out, o.device.startswith("cuda"), o.num_test), []
        ).append(o)
    names = ("subject", "variant", "images", "seeds", "on", "seconds", "steps", "GiB", *COLUMNS, "head, trained on")
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for group in groups.values():
        first = group[0]
        images = f"{first.num_test} of {'test, trained on' if first.held_out == 'none' else first.held_out}"
        machine = "GPU" if first.device.startswith("cuda") else "CPU"
        cells = [first.subject, first.variant, images, f"{len(group)}", machine, f"{first.seconds:g}"]
        cells.append(f"{statistics.mean(outcome.steps for outcome in group):.0f}")
        cells.append(f"{max(outcome.peak_gib for outcome in group):.1f}")
        cells += [_mean_and_spread([outcome.metrics[name] for outcome in group]) for name in COLUMNS]
        cells.append(_mean_and_spread([outcome.seen["psnr_head"] for outcome in group]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def several_times(outcomes: Sequence[Outcome]) -> bool:
    """Whether there is anything that `time_plot` draws."""
    return bool(_by_time(outcomes))


def _by_time(outcomes: Sequence[Outcome]) -> dict[str, dict[str, dict[float, list[float]]]]:
    """psnr_head by subject, variant and seconds, of variants that were run for several times."""
    found: dict[str, dict[str, dict[float, list[float]]]] = {}
    for o in outcomes:
        machine = "GPU" if o.device.startswith("cuda") else "CPU"
        by_time = found.setdefault(o.subject, {}).setdefault(f"{o.variant}, {o.held_out}, {machine}", {})
        by_time.setdefault(o.seconds, []).append(o.metrics["psnr_head"])
    several = {s: {v: times for v, times in lines.items() if len(times) > 1} for s, lines in found.items()}
    return {subject: lines for subject, lines in several.items() if lines}


def time_plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw how psnr_head grows with training time: a panel for each subject, a line for each variant that was run for
    several times, its seeds' spread as bars.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = _by_time(outcomes)
    colors = {variant: f"C{i}" for i, variant in enumerate(dict.fromkeys(v for lines in found.values() for v in lines))}
    drawn = {}
    size = (4.5 * len(found) + 1.5, 4.5)
    figure, (panels,) = plt.subplots(1, len(found), figsize=size, layout="constrained", squeeze=False)
    for axes, (subject, lines) in zip(panels, found.items(), strict=True):
        for variant, by_time in lines.items():
            times = sorted(by_time)
            means = [statistics.mean(by_time[t]) for t in times]
            deviations = [statistics.stdev(by_time[t]) if len(by_time[t]) > 1 else 0.0 for t in times]
            drawn[variant] = axes.errorbar(times, means, deviations, marker="o", capsize=3, color=colors[variant])
        axes.set(title=subject, xlabel="seconds of training")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("psnr_head of images not trained on, dB")
    figure.legend(drawn.values(), drawn.keys(), loc="outside right center")
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=100)
    plt.close(figure)


def driving_table(speeds: Sequence[Speed], quality: Quality | None) -> str:
    """Seconds an image by size, exact, fast, and fast in a sequence; below it the metrics of exact and fast, where
    they were measured.
    """
    lines = ["| longer side | seconds exact | seconds fast | times as fast | seconds fast, in a sequence |"]
    lines.append("|---" * 5 + "|")
    lines += [
        f"| {s.size} | {s.exact:.2f} | {s.fast:.3f} | {s.exact / s.fast:.1f} | {s.sequence:.3f} |" for s in speeds
    ]
    if quality is not None:
        lines += ["", "| images | " + " | ".join(COLUMNS) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
        for name, metrics in (("exact", quality.exact), ("fast", quality.fast)):
            lines.append(f"| {name} | " + " | ".join(f"{metrics[column]:.3f}" for column in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def steps_table(costs: Sequence[StepCost], pieces: Mapping[str, float]) -> str:
    """What a step takes by setting, and the share of each piece of it."""
    lines = ["| what changes | value | milliseconds a step | ratio |", "|---|---|---|---|"]
    lines += [f"| {c.changed} | {c.value} | {c.milliseconds:.1f} | {c.ratio:.2f} |" for c in costs]
    lines += ["", "| piece of a step on the CPU | share |", "|---|---|"]
    lines += [f"| {name} | {100 * share:.0f}% |" for name, share in pieces.items()]
    return "\n".join(lines) + "\n"


def _mean_and_spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
