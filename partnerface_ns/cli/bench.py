"""`partnerface bench`: what each piece of the method brings, at equal training time."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from partnerface_ns.errors import SubjectError

if TYPE_CHECKING:
    from partnerface_ns.bench.training_runs import Job, Outcome


@dataclass
class Bench:
    """Compare the method with itself less one piece: equal time of one thread, test frames only reported.

    Writes bench.json after every run and bench.md at the end. Stopped, the same command goes on with the missing runs.
    With --avatar nothing is trained: a trained avatar's pictures are timed, exact and fast.
    """

    output: Path
    """Folder to write."""
    subjects: tuple[Path, ...] = ()
    """Capture folders; none makes the demo subject in the output folder."""
    seconds: float = 60.0
    """Seconds of training steps of each run."""
    seeds: int = 3
    """Runs of each variant, with seeds counted from 0."""
    variants: tuple[str, ...] = ()
    """Variants to run; none runs those that take a piece of the method away."""
    held_out: Literal["test", "tune", "none"] = "test"
    """Pictures to measure: the test split, to report; the last fifth of the training frames, to choose settings by; or
    the test split after training on it too, to see what is missed though it was seen."""
    avatar: Path | None = None
    """A run's folder or an avatar file, whose pictures are timed and, with its capture in --subjects, measured."""
    head_model: Path | None = None
    """The avatar's head model file, where it is no longer where training found it."""
    num_test: int = 15
    """Pictures measured in each run, spread evenly over those held out."""
    jobs: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Runs side by side, each on one thread."""

    def __call__(self) -> None:
        if self.avatar is None:
            self._train_and_measure()
        else:
            self._time(self.avatar)

    def _time(self, avatar: Path) -> None:
        from partnerface_ns.bench.driving import quality, speeds
        from partnerface_ns.bench.tables import driving_table
        from partnerface_ns.cli.avatars import open_player
        from partnerface_ns.files import write_text

        if len(self.subjects) > 1:
            raise SubjectError("--subjects", "one avatar has one capture", expected=1, found=len(self.subjects))
        player = open_player(avatar, self.head_model)
        measured = quality(player, self.subjects[0], self.num_test) if self.subjects else None
        table = driving_table(speeds(player), measured)
        self.output.mkdir(parents=True, exist_ok=True)
        write_text(self.output / "driving.md", table)
        print(f"{self.output / 'driving.md'}:\n\n{table}")

    def _train_and_measure(self) -> None:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor, as_completed

        from rich.progress import track

        from partnerface_ns.bench.training_runs import run

        self.output.mkdir(parents=True, exist_ok=True)
        outcomes = self._finished()
        todo = self._missing(outcomes)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.jobs, mp_context=context) as pool:
            futures = [pool.submit(run, job) for job in todo]
            try:
                for future in track(as_completed(futures), "Training and measuring", total=len(futures)):
                    outcomes.append(future.result())
                    self._write(outcomes)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        print(f"{self.output / 'bench.md'}:\n\n{self._write(outcomes)}")

    def _missing(self, outcomes: Sequence[Outcome]) -> list[Job]:
        from partnerface_ns.bench.training_runs import Job
        from partnerface_ns.bench.variants import ABLATION, VARIANTS
        from partnerface_ns.capture.load import load_capture

        unknown = [name for name in self.variants if name not in VARIANTS]
        if unknown:
            raise SubjectError("--variants", "unknown variant", expected=", ".join(VARIANTS), found=unknown[0])
        subjects = {load_capture(folder).name: folder for folder in self.subjects or (self._demo_subject(),)}
        done = {(outcome.subject, outcome.variant, outcome.seed) for outcome in outcomes}
        return [
            Job(folder, variant, seed, self.seconds, self.num_test, self.held_out)
            for seed in range(self.seeds)
            for name, folder in subjects.items()
            for variant in self.variants or ABLATION
            if (name, variant, seed) not in done
        ]

    def _demo_subject(self) -> Path:
        from partnerface_ns.demo.subject import make_subject

        folder = self.output / "demo-subject"
        if not folder.exists():
            make_subject(folder)
        return folder

    def _finished(self) -> list[Outcome]:
        from partnerface_ns.bench.training_runs import Outcome

        path = self.output / "bench.json"
        if not path.is_file():
            return []
        stored = [Outcome(**row) for row in json.loads(path.read_text(encoding="utf8"))["runs"]]
        return [outcome for outcome in stored if (outcome.seconds, outcome.held_out) == (self.seconds, self.held_out)]

    def _write(self, outcomes: Sequence[Outcome]) -> str:
        from partnerface_ns.bench.tables import ablation_table
        from partnerface_ns.bench.variants import VARIANTS
        from partnerface_ns.files import write_text

        order = list(VARIANTS)
        ordered = sorted(outcomes, key=lambda o: (o.subject, order.index(o.variant), o.seed))
        table = ablation_table(ordered)
        write_text(self.output / "bench.json", json.dumps({"runs": [o.to_dict() for o in ordered]}, indent=1))
        write_text(self.output / "bench.md", table)
        return table
