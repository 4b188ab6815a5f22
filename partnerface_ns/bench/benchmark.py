"""One benchmark: what is measured, with which options, and the folder of its results.

Every result is written as soon as it is complete, so an interrupted benchmark resumes with the missing runs.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from partnerface_ns.bench.floor import FloorResult, measure_floor
from partnerface_ns.bench.machine import describe_machine
from partnerface_ns.bench.rendering import RenderingResult, measure_quality, time_images
from partnerface_ns.bench.results import Results
from partnerface_ns.bench.scaling import StepTimes, measure_pieces, measure_step_costs
from partnerface_ns.bench.training_runs import HeldOut, Job, RunResult, run_key, train_and_measure
from partnerface_ns.capture.names import CAPTURES_OWN_SPLIT, SplitName
from partnerface_ns.common.progress import progress
from partnerface_ns.common.threads import end_with_parent
from partnerface_ns.demo.subject import make_subject
from partnerface_ns.driving.player import Player


@dataclass(frozen=True)
class Benchmark:
    """The options of a benchmark."""

    output: Path
    """Folder of the results."""
    captures: tuple[Path, ...]
    """Folders of the captures to train on and measure."""
    variants: tuple[str, ...]
    """Variants to train, at least one."""
    seconds: tuple[float, ...]
    """Training times; each is a run of its own."""
    seeds: int
    """Runs of each variant, with seeds counted from 0."""
    device: str
    """Device to train and render on: cpu, cuda or cuda:N."""
    open_player: Callable[[Path], Player]
    """Opens the avatar of a run folder or an avatar file."""
    held_out: HeldOut = "test"
    num_test: int = 15
    """Images that each run measures at most."""
    head_model: Path | None = None
    """The head model's file, if the captures do not contain it."""
    jobs: int | None = None
    """Runs in parallel; None takes one per core, and one on a GPU."""
    keep_avatars: bool = False
    """Whether the trained avatars are kept."""
    split: SplitName | None = None
    """Split by time in place of the captures' own (`capture/splits.py`)."""
    refit: bool = False
    """Whether images are also measured after a refit of their head states (`training/refit.py`)."""

    def results(self) -> Results:
        """All results in the folder, also those of other options."""
        return Results.read(self.output)

    def add(self, row: RunResult | RenderingResult | StepTimes | FloorResult) -> None:
        """Write one result into the folder."""
        results = self.results()
        results.add(row)
        results.write(self.output)

    def train_and_measure(self) -> int:
        """Train and measure the missing runs, and measure missing floors; returns how many runs were missing."""
        finished = {floor.key for floor in self.results().floors}
        for capture in self.captures:
            if (capture.resolve().name, self.held_out, self.num_test, self._split_name) not in finished:
                self.add(measure_floor(capture, self.held_out, self.num_test, self.head_model, self.split))
        missing = self.missing_jobs()
        for folder in (self._images, self._avatars):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        num_jobs = self.jobs or (1 if self.device.startswith("cuda") else os.cpu_count() or 1)
        with ProcessPoolExecutor(num_jobs, multiprocessing.get_context("spawn"), end_with_parent) as pool:
            futures = [pool.submit(train_and_measure, job) for job in missing]
            try:
                for future in progress(as_completed(futures), "Training and measuring", len(futures)):
                    self.add(future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():  # they would continue with their current run
                    process.terminate()
                raise
        return len(missing)

    def missing_jobs(self) -> list[Job]:
        """The runs that are not in the folder yet, or whose avatar is to be kept and is not there."""
        measured = self.held_out, self.device, self.num_test, self._split_name
        jobs = {
            run_key(folder.resolve().name, variant, seed, seconds, *measured): self._job(folder, variant, seed, seconds)
            for seed in range(self.seeds)
            for seconds in self.seconds
            for folder in self.captures
            for variant in self.variants
        }
        finished = {run.key for run in self.results().runs if run.refitted is not None or not self.refit}
        missing = [job for key, job in jobs.items() if key not in finished or not _has_avatar(job)]
        if len(missing) < len(jobs):
            print(f"{len(jobs) - len(missing)} of {len(jobs)} runs are already in {self.output}.")
        return missing

    def time_steps(self) -> None:
        """Measure what a training step on the first capture takes, and how that grows."""
        capture = self.captures[0]
        costs = measure_step_costs(capture, self.device, self.head_model)
        pieces = measure_pieces(capture, self.head_model)
        self.add(StepTimes(capture.resolve().name, describe_machine(self.device), costs, pieces))

    def time_avatar(self, avatar: Path, sizes: Sequence[int]) -> None:
        """Measure the rendering speed of an avatar and, on the first capture if there is one, its quality."""
        player = self.open_player(avatar)
        capture_name, quality = "", None
        if self.captures:
            capture_name = self.captures[0].resolve().name
            quality = measure_quality(player, self.captures[0], self.num_test, self.head_model)
        run = avatar.parent if avatar.name == "config.yml" else avatar
        name = run.stem if run.suffix == ".pt" else run.resolve().name
        machine = describe_machine(player.device)
        self.add(RenderingResult(capture_name, name, machine, time_images(player, sizes), quality, self.num_test))

    def avatar_path(self, capture: Path) -> Path:
        """The kept avatar of a capture: the first variant, trained longest, with seed 0."""
        return self.output / "avatars" / f"{self._job(capture, self.variants[0], 0, max(self.seconds)).name}.pt"

    @property
    def _split_name(self) -> str:
        return self.split or CAPTURES_OWN_SPLIT

    @property
    def _images(self) -> Path:
        return self.output / "images"

    @property
    def _avatars(self) -> Path | None:
        return self.output / "avatars" if self.keep_avatars else None

    def _job(self, capture: Path, variant: str, seed: int, seconds: float) -> Job:
        return Job(
            capture,
            variant,
            seed,
            seconds,
            self.num_test,
            self.held_out,
            self.device,
            head_model=self.head_model,
            images=self._images,
            avatars=self._avatars,
            split=self.split,
            refit=self.refit,
        )


def demo_capture(output: Path) -> Path:
    """The capture of the demo person in a benchmark's folder; it is made if it is not there."""
    folder = output / "demo-subject"
    if not folder.exists():
        make_subject(folder)
    return folder


def _has_avatar(job: Job) -> bool:
    """Whether a finished job's avatar is there, if it is to be kept."""
    return job.avatars is None or (job.avatars / f"{job.name}.pt").is_file()
