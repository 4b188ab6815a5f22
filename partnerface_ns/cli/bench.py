"""`partnerface bench`: what each piece of the method brings, at equal training time, and what it takes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from partnerface_ns.common.command_lines import command
from partnerface_ns.common.errors import InputError

if TYPE_CHECKING:
    from partnerface_ns.bench.driving import Driven
    from partnerface_ns.bench.results import Results
    from partnerface_ns.bench.scaling import StepTimes
    from partnerface_ns.bench.training_runs import Job, Outcome

QUICK_SECONDS = 60.0
"""Of each of the quick suite's runs."""
SIZES, QUICK_SIZES = (128, 256, 512), (128, 256)
"""Longer sides of the images that are timed; an exact one of 512 takes a slow CPU half a minute."""
FULL_SECONDS, LONGER_SECONDS = 120.0, (300.0, 600.0)
"""Of each of the full suite's runs, and of the method's that show how quality grows with time."""


@dataclass
class Bench:
    """Compare the method with itself less one piece: equal time of one thread or a GPU; test frames are measured and
    never chosen by.

    Writes bench.json and bench.md after every run (and bench.png, where there are several --seconds), and images of
    the measured frames beside the truth; what the folder holds from other commands stays in them. Stopped, the same
    command goes on with what is missing; suites leave what is timed already. With --avatar nothing is trained: a
    trained avatar's images are timed, exact and fast, alone and in a sequence. `--suite quick` is a bit of
    everything, in minutes, `--suite full` all of docs/benchmarks.md, in an hour and more for two captures.
    """

    output: Path
    """Folder to write."""
    subjects: tuple[Path, ...] = ()
    """Capture folders (quick, scaling and --avatar take one); by default the demo subject, made in --output."""
    suite: Literal["ablation", "quick", "full", "scaling"] = "ablation"
    """ablation: runs of --variants; scaling: what a training step takes, and how that grows with frames, size and
    parts; quick: scaling, one run each of the method, of `none` and of `dense`, and the speed of the method's images;
    full: scaling, three runs each of the method and of its variants, two longer ones of the method, and the speed of
    its images. Only ablation looks at --seconds and --seeds; --num-test is for ablation and --avatar."""
    seconds: tuple[float, ...] = (60.0,)
    """Seconds of training steps of each run; several show how quality grows with time, each a run of its own."""
    seeds: int = 3
    """Runs of each variant, with seeds counted from 0."""
    variants: tuple[str, ...] = ()
    """Variants to run; by default those that take a piece of the method away. An unknown name lists all."""
    held_out: Literal["test", "tune", "none"] = "test"
    """Images to measure: the test split, to report; the last fifth of the training frames, to choose settings by; or
    the test split after training on it too, to see what is missed though it was seen."""
    avatar: Path | None = None
    """A run's folder or an avatar file, whose images are timed and, with its capture in --subjects, measured."""
    head_model: Path | None = None
    """The head model's file, where the captures have none, or the avatar's is no longer where training found it."""
    num_test: int = 15
    """Images measured in each run, spread evenly over those held out."""
    device: str = "auto"
    """Where to train and render: auto, cpu, cuda or cuda:N."""
    jobs: int | None = None
    """Runs side by side, each on one thread; by default as many as there are cores, and one on a GPU."""
    keep_avatars: bool = False
    """Keep every run's avatar, to look at or to drive."""

    def __call__(self) -> None:
        from partnerface_ns.common.files import require_writable
        from partnerface_ns.common.locks import lock_folder

        self._check()
        require_writable(self.output)
        self.output.mkdir(parents=True, exist_ok=True)
        with lock_folder(self.output):  # others would train the same and lose what this one found
            avatar = self._run()
            print(f"{self.output / 'bench.md'}:\n\n{self._results().report()}")
        if avatar is not None:
            drive = ("partnerface", "drive", avatar, "--performance", "talk", "--output", "talk.mp4")
            print(f"Next:\n  {command(*drive)}")

    def _run(self) -> Path | None:
        """Returns an avatar that was trained and kept, if one was."""
        if self.suite == "quick":
            return self._quick()
        if self.suite == "full":
            return self._full()
        if self.avatar is not None:
            self._time(self.avatar, SIZES)
        elif self.suite == "scaling":
            self._time_steps()
        else:
            self._train_and_measure()
            return self._avatar_of(self._all_subjects()[0]) if self.keep_avatars else None
        return None

    def _check(self) -> None:
        """Refuse what makes no sense before anything is written."""
        from partnerface_ns.bench.variants import VARIANTS
        from partnerface_ns.capture.head_models import resolve_head_model
        from partnerface_ns.capture.load import load_capture

        numbers = {"--seeds": self.seeds, "--num-test": self.num_test, "--jobs": 1 if self.jobs is None else self.jobs}
        for name, number in numbers.items():
            if number < 1:
                raise InputError(name, "out of range", expected="1 or more", found=number)
        if self.avatar is not None and self.suite != "ablation":
            raise InputError(
                "--suite", "does not go with --avatar, which is trained already", expected="ablation", found=self.suite
            )
        if self.variants and (self.avatar is not None or self.suite != "ablation"):
            raise InputError("--variants", "takes --suite ablation, and no --avatar", found=" ".join(self.variants))
        if not self.seconds or min(self.seconds) <= 0:
            found = " ".join(f"{seconds:g}" for seconds in self.seconds) or "none"
            raise InputError("--seconds", "out of range", expected="more than 0", found=found)
        unknown = [name for name in self.variants if name not in VARIANTS]
        if unknown:
            raise InputError("--variants", "unknown variant", expected=", ".join(map(repr, VARIANTS)), found=unknown[0])
        if len(self.subjects) > 1 and (self.avatar is not None or self.suite in ("quick", "scaling")):
            raise InputError("--subjects", "this takes one capture", expected=1, found=len(self.subjects))
        if len({folder.resolve().name for folder in self.subjects}) < len(self.subjects):
            found = ", ".join(str(folder) for folder in self.subjects)
            raise InputError(
                "--subjects", "runs are told apart by it", expected="folders of different names", found=found
            )
        if self.output.exists() and not self.output.is_dir():
            raise InputError("--output", "not a folder", expected="a new folder, or a benchmark's", found=self.output)
        for folder in self.subjects:
            resolve_head_model(load_capture(folder, head_model=self.head_model), self.head_model)
        self._results()

    def _quick(self) -> Path:
        from partnerface_ns.bench.variants import QUICK

        (subject,) = self._all_subjects()
        few = replace(self, variants=QUICK, seconds=(QUICK_SECONDS,), seeds=1, num_test=2, keep_avatars=True)
        anew = few._train_and_measure() > 0
        self._time_steps_once(subject)
        few._time_trained(subject, QUICK_SIZES, anew)
        return few._avatar_of(subject)

    def _full(self) -> Path:
        from partnerface_ns.bench.variants import FULL

        all_of_them = self._all_subjects()
        runs = replace(self, subjects=all_of_them, variants=FULL, seconds=(FULL_SECONDS,), seeds=3, num_test=8)
        runs._train_and_measure()
        longer = replace(runs, variants=FULL[:1], seconds=LONGER_SECONDS, seeds=1, keep_avatars=True)
        anew = longer._train_and_measure() > 0
        self._time_steps_once(all_of_them[0])
        for subject in all_of_them:
            longer._time_trained(subject, SIZES, anew)
        return longer._avatar_of(all_of_them[0])

    def _time_steps_once(self, subject: Path) -> None:
        from partnerface_ns.bench.machine import machine

        if (subject.resolve().name, machine(self._device())) not in {steps.key for steps in self._results().steps}:
            replace(self, subjects=(subject,))._time_steps()

    def _time_trained(self, subject: Path, sizes: tuple[int, ...], anew: bool) -> None:
        """The images of a subject's avatar, if they were not or are to be timed anew."""
        from partnerface_ns.bench.machine import machine

        avatar = self._avatar_of(subject)
        timed = {driven.key for driven in self._results().driven}
        if anew or (subject.resolve().name, avatar.stem, machine(self._device())) not in timed:
            replace(self, subjects=(subject,))._time(avatar, sizes)

    def _avatar_of(self, subject: Path) -> Path:
        """Of the first variant's longest run."""
        from partnerface_ns.bench.variants import ABLATION

        job = self._job(subject, (self.variants or ABLATION)[0], 0, max(self.seconds), self._device())
        return self.output / "avatars" / f"{job.name}.pt"

    def _time_steps(self) -> None:
        from partnerface_ns.bench.machine import machine
        from partnerface_ns.bench.scaling import StepTimes, pieces_of_a_step, step_costs

        (subject,), device = self._all_subjects(), self._device()
        costs = step_costs(subject, device, self.head_model)
        pieces = pieces_of_a_step(subject, self.head_model)
        self._add(StepTimes(subject.resolve().name, machine(device), costs, pieces))

    def _all_subjects(self) -> tuple[Path, ...]:
        return self.subjects or (self._demo_subject(),)

    def _device(self) -> str:
        from partnerface_ns.cli.avatars import usable_device

        return usable_device(self.device)

    def _time(self, avatar: Path, sizes: tuple[int, ...]) -> None:
        from partnerface_ns.bench.driving import Driven, quality, speeds
        from partnerface_ns.bench.machine import machine
        from partnerface_ns.cli.avatars import open_player

        player = open_player(avatar, self.head_model, self.device)
        subject, measured = "", None
        if self.subjects:
            subject = self.subjects[0].resolve().name
            measured = quality(player, self.subjects[0], self.num_test, self.head_model)
        run = avatar.parent if avatar.name == "config.yml" else avatar
        name = run.stem if run.suffix == ".pt" else run.resolve().name
        self._add(Driven(subject, name, machine(player.device), speeds(player, sizes), measured, self.num_test))

    def _train_and_measure(self) -> int:
        """Returns how many runs were missing."""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor, as_completed

        from partnerface_ns.bench.training_runs import run
        from partnerface_ns.common.progress import progress

        device = self._device()
        todo = self._missing(self._results().runs, device)
        for folder in (self._images, self._avatars):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        jobs = self.jobs or (1 if device.startswith("cuda") else os.cpu_count() or 1)
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            futures = [pool.submit(run, job) for job in todo]
            try:
                for future in progress(as_completed(futures), "Training and measuring", len(futures)):
                    self._add(future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():  # they would go on with the runs handed to them
                    process.terminate()
                raise
        return len(todo)

    @property
    def _images(self) -> Path:
        return self.output / "images"

    @property
    def _avatars(self) -> Path | None:
        return self.output / "avatars" if self.keep_avatars else None

    def _missing(self, outcomes: list[Outcome], device: str) -> list[Job]:
        from partnerface_ns.bench.training_runs import run_key
        from partnerface_ns.bench.variants import ABLATION

        asked = {
            run_key(folder.resolve().name, variant, seed, seconds, self.held_out, device, self.num_test): self._job(
                folder, variant, seed, seconds, device
            )
            for seed in range(self.seeds)
            for seconds in self.seconds
            for folder in self._all_subjects()
            for variant in self.variants or ABLATION
        }
        done = {outcome.key for outcome in outcomes}
        missing = {key: job for key, job in asked.items() if key not in done or not self._kept(job)}
        if len(missing) < len(asked):
            print(f"{len(asked) - len(missing)} of {len(asked)} runs lie in {self.output} already.")
        return list(missing.values())

    def _kept(self, job: Job) -> bool:
        """Whether a finished job's avatar is there, if it is asked for."""
        return job.avatars is None or (job.avatars / f"{job.name}.pt").is_file()

    def _job(self, folder: Path, variant: str, seed: int, seconds: float, device: str) -> Job:
        from partnerface_ns.bench.training_runs import Job

        run = (folder, variant, seed, seconds, self.num_test, self.held_out, device)
        return Job(*run, head_model=self.head_model, images=self._images, avatars=self._avatars)

    def _demo_subject(self) -> Path:
        from partnerface_ns.demo.subject import make_subject

        folder = self.output / "demo-subject"
        if not folder.exists():
            make_subject(folder)
        return folder

    def _results(self) -> Results:
        """All that the folder holds, also of other options."""
        from partnerface_ns.bench.results import Results

        return Results.of(self.output)

    def _add(self, row: Outcome | Driven | StepTimes) -> None:
        results = self._results()
        results.add(row)
        results.write(self.output)
