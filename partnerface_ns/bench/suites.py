"""Suites: which runs and timings belong together.

- ablation: runs of chosen variants
- scaling: what a training step takes, and how that grows with frames, image size and number of parts
- quick: a little of everything, in minutes
- full: everything in docs/benchmarks.md, in an hour and more for two captures
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from partnerface_ns.bench.benchmark import Benchmark
from partnerface_ns.bench.machine import describe_machine
from partnerface_ns.bench.variants import FULL, QUICK

SuiteName = Literal["ablation", "quick", "full", "scaling"]
SIZES, QUICK_SIZES = (128, 256, 512), (128, 256)
"""Longer sides of the images that are timed. An exact image of 512 takes a slow CPU half a minute."""
QUICK_SECONDS = 60.0
"""Training time of the quick suite's runs."""
FULL_SECONDS, LONGER_SECONDS = 120.0, (300.0, 600.0)
"""Training times of the full suite's runs, and of the method's longer runs."""


def run_suite(
    benchmark: Benchmark, suite: SuiteName, avatar: Path | None = None, sizes: tuple[int, ...] = SIZES
) -> Path | None:
    """Run a suite, or time a trained avatar if one is given, with images of these longer sides in pixels.

    Returns:
        An avatar that the suite trained and kept; None if it kept none.
    """
    if avatar is not None:
        benchmark.time_avatar(avatar, sizes)
        return None
    if suite == "quick":
        return _run_quick(benchmark)
    if suite == "full":
        return _run_full(benchmark)
    if suite == "scaling":
        benchmark.time_steps()
        return None
    benchmark.train_and_measure()
    return benchmark.avatar_path(benchmark.captures[0]) if benchmark.keep_avatars else None


def _run_quick(benchmark: Benchmark) -> Path:
    (capture,) = benchmark.captures
    short = replace(benchmark, variants=QUICK, seconds=(QUICK_SECONDS,), seeds=1, num_test=2, keep_avatars=True)
    is_new = short.train_and_measure() > 0
    _time_steps_once(benchmark)
    _time_avatar_once(short, capture, QUICK_SIZES, is_new)
    return short.avatar_path(capture)


def _run_full(benchmark: Benchmark) -> Path:
    runs = replace(benchmark, variants=FULL, seconds=(FULL_SECONDS,), seeds=3, num_test=8)
    runs.train_and_measure()
    longer = replace(runs, variants=FULL[:1], seconds=LONGER_SECONDS, seeds=1, keep_avatars=True)
    is_new = longer.train_and_measure() > 0
    _time_steps_once(benchmark)
    for capture in benchmark.captures:
        _time_avatar_once(longer, capture, SIZES, is_new)
    return longer.avatar_path(benchmark.captures[0])


def _time_steps_once(benchmark: Benchmark) -> None:
    """Time the steps of the first capture, unless the results of this machine contain them."""
    capture = benchmark.captures[0]
    key = (capture.resolve().name, describe_machine(benchmark.device))
    if key not in {steps.key for steps in benchmark.results().steps}:
        replace(benchmark, captures=(capture,)).time_steps()


def _time_avatar_once(benchmark: Benchmark, capture: Path, sizes: tuple[int, ...], is_new: bool) -> None:
    """Time a capture's avatar if it is new, or if the results of this machine do not contain it."""
    avatar = benchmark.avatar_path(capture)
    key = (capture.resolve().name, avatar.stem, describe_machine(benchmark.device))
    if is_new or key not in {rendering.key for rendering in benchmark.results().renderings}:
        replace(benchmark, captures=(capture,)).time_avatar(avatar, sizes)
