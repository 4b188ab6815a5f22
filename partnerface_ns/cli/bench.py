"""`partnerface bench`: what each piece of the method brings, at equal training time, and what it takes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from partnerface_ns.errors import SubjectError

if TYPE_CHECKING:
    from partnerface_ns.bench.training_runs import Job, Outcome

QUICK_SECONDS = 60.0
"""Of each of the quick suite's runs."""


@dataclass
class Bench:
    """Compare the method with itself less one piece: equal time of one thread or a GPU, test frames only reported.

    Writes bench.json and bench.md after every run (and bench.png, where there are several --seconds), and pictures of
    the measured frames beside the truth. Stopped, the same command goes on with the missing runs. With --avatar
    nothing is trained: a trained avatar's pictures are timed, exact and fast, alone and in a sequence. `--suite quick`
    is a bit of everything, in minutes.
    """

    output: Path
    """Folder to write."""
    subjects: tuple[Path, ...] = ()
    """Capture folders; none makes the demo subject in the output folder."""
    suite: Literal["ablation", "quick", "scaling"] = "ablation"
    """ablation: runs of --variants; scaling: what a training step takes, and how that grows with frames, size and
    parts; quick: one run each of the method, of itself without deformation and with dense parts, the pictures' speed,
    and scaling. Only ablation looks at --variants, --seconds, --seeds and --num-test."""
    seconds: tuple[float, ...] = (60.0,)
    """Seconds of training steps of each run; several show how quality grows with time, each a run of its own."""
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
    device: str = "auto"
    """Where to train and render: auto, cpu, cuda or cuda:N."""
    jobs: int | None = None
    """Runs side by side, each on one thread; none makes as many as there are cores, and one on a GPU."""
    keep_avatars: bool = False
    """Keep every run's avatar, to look at or to drive."""

    def __call__(self) -> None:
        self._check()
        if self.avatar is not None:
            self._time(self.avatar)
        elif self.suite == "scaling":
            self._time_steps()
        elif self.suite == "quick":
            self._quick()
        else:
            self._train_and_measure()

    def _check(self) -> None:
        """Refuse numbers that mean nothing before anything is trained."""
        numbers = {"--seeds": self.seeds, "--num-test": self.num_test, "--jobs": 1 if self.jobs is None else self.jobs}
        for name, number in numbers.items():
            if number < 1:
                raise SubjectError(name, "out of range", expected="1 or more", found=number)
        if self.avatar is not None and self.suite != "ablation":
            raise SubjectError("--suite", "trains by itself, and --avatar is trained", found=self.suite)
        if not self.seconds or min(self.seconds) <= 0:
            raise SubjectError("--seconds", "out of range", expected="more than 0", found=self.seconds)

    def _quick(self) -> None:
        from partnerface_ns.bench.variants import QUICK

        subject = self._one_subject()
        few = replace(self, variants=QUICK, seconds=(QUICK_SECONDS,), seeds=1, num_test=4, keep_avatars=True)
        few._train_and_measure()
        self._time_steps()
        trained = few._job(subject, QUICK[0], 0, few.seconds[0], self._device())
        replace(few, subjects=(subject,))._time(self.output / "avatars" / f"{trained.name}.pt")

    def _time_steps(self) -> None:
        from partnerface_ns.bench.scaling import pieces_of_a_step, step_costs
        from partnerface_ns.bench.tables import steps_table
        from partnerface_ns.files import write_text

        subject = self._one_subject()
        self.output.mkdir(parents=True, exist_ok=True)
        table = steps_table(step_costs(subject, self._device()), pieces_of_a_step(subject))
        write_text(self.output / "steps.md", table)
        print(f"{self.output / 'steps.md'}:\n\n{table}")

    def _one_subject(self) -> Path:
        if len(self.subjects) > 1:
            raise SubjectError("--subjects", "this takes one capture", expected=1, found=len(self.subjects))
        return self.subjects[0] if self.subjects else self._demo_subject()

    def _device(self) -> str:
        from partnerface_ns.cli.avatars import usable_device

        return usable_device(self.device)

    def _time(self, avatar: Path) -> None:
        from partnerface_ns.bench.driving import quality, speeds
        from partnerface_ns.bench.tables import driving_table
        from partnerface_ns.cli.avatars import open_player
        from partnerface_ns.files import write_text

        if len(self.subjects) > 1:
            raise SubjectError("--subjects", "one avatar has one capture", expected=1, found=len(self.subjects))
        player = open_player(avatar, self.head_model, self.device)
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

        device = self._device()
        outcomes = self._finished()
        todo = self._missing(outcomes, device)
        for folder in (self._pictures, self._avatars):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        jobs = self.jobs or (1 if device.startswith("cuda") else os.cpu_count() or 1)
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            futures = [pool.submit(run, job) for job in todo]
            try:
                for future in track(as_completed(futures), "Training and measuring", total=len(futures)):
                    outcomes.append(future.result())
                    self._write(outcomes)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        print(f"{self.output / 'bench.md'}:\n\n{self._write(outcomes)}")

    @property
    def _pictures(self) -> Path:
        return self.output / "pictures"

    @property
    def _avatars(self) -> Path | None:
        return self.output / "avatars" if self.keep_avatars else None

    def _missing(self, outcomes: list[Outcome], device: str) -> list[Job]:
        from partnerface_ns.bench.variants import ABLATION, VARIANTS
        from partnerface_ns.capture.load import load_capture

        unknown = [name for name in self.variants if name not in VARIANTS]
        if unknown:
            raise SubjectError("--variants", "unknown variant", expected=", ".join(VARIANTS), found=unknown[0])
        folders = self.subjects or (self._demo_subject(),)
        subjects = {load_capture(folder).name: folder for folder in folders}
        if len(subjects) < len(folders):
            found = ", ".join(str(folder) for folder in folders)
            raise SubjectError("--subjects", "runs are told apart by the folders' names", found=found)
        asked = {
            _key(name, variant, seed, seconds, self.held_out, device, self.num_test): self._job(
                folder, variant, seed, seconds, device
            )
            for seed in range(self.seeds)
            for seconds in self.seconds
            for name, folder in subjects.items()
            for variant in self.variants or ABLATION
        }
        done = {_key_of(o) for o in outcomes}
        missing = {key: job for key, job in asked.items() if key not in done or not self._kept(job)}
        outcomes[:] = [o for o in outcomes if _key_of(o) not in missing]
        if len(missing) < len(asked):
            print(f"{len(asked) - len(missing)} of {len(asked)} runs lie in {self.output} already.")
        return list(missing.values())

    def _kept(self, job: Job) -> bool:
        """Whether a finished job's avatar is there, if it is asked for."""
        return job.avatars is None or (job.avatars / f"{job.name}.pt").is_file()

    def _job(self, folder: Path, variant: str, seed: int, seconds: float, device: str) -> Job:
        from partnerface_ns.bench.training_runs import Job

        run = (folder, variant, seed, seconds, self.num_test, self.held_out, device)
        return Job(*run, pictures=self._pictures, avatars=self._avatars)

    def _demo_subject(self) -> Path:
        from partnerface_ns.demo.subject import make_subject

        folder = self.output / "demo-subject"
        if not folder.exists():
            make_subject(folder)
        return folder

    def _finished(self) -> list[Outcome]:
        """All runs of the folder, also those of other options."""
        from partnerface_ns.bench.training_runs import Outcome

        path = self.output / "bench.json"
        if not path.is_file():
            return []
        return [Outcome(**row) for row in json.loads(path.read_text(encoding="utf8"))["runs"]]

    def _write(self, outcomes: Sequence[Outcome]) -> str:
        from partnerface_ns.bench.tables import ablation_table, time_plot
        from partnerface_ns.bench.variants import VARIANTS
        from partnerface_ns.files import write_text

        order = list(VARIANTS)
        ordered = sorted(outcomes, key=lambda o: (o.subject, o.seconds, order.index(o.variant), o.seed))
        table = ablation_table(ordered)
        write_text(self.output / "bench.json", json.dumps({"runs": [o.to_dict() for o in ordered]}, indent=1))
        write_text(self.output / "bench.md", table)
        if len({outcome.seconds for outcome in outcomes}) > 1:
            time_plot(ordered, self.output / "bench.png")
        return table


def _key_of(o: Outcome) -> tuple[object, ...]:
    return _key(o.subject, o.variant, o.seed, o.seconds, o.held_out, o.device, o.num_test)


def _key(
    subject: str, variant: str, seed: int, seconds: float, held_out: str, device: str, num_test: int
) -> tuple[object, ...]:
    """What tells a run from others."""
    return subject, variant, seed, seconds, held_out, device.startswith("cuda"), num_test
