"""`partnerface bench`: comparison of variants of the method at equal training time, and timings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from partnerface_ns.capture.names import SplitName
from partnerface_ns.common.command_lines import command
from partnerface_ns.common.errors import InputError

if TYPE_CHECKING:
    from partnerface_ns.bench.benchmark import Benchmark


@dataclass
class Bench:
    """Compare variants of the method at equal training time, or time a trained avatar.

    Writes bench.json and bench.md after every run, bench.png if there are several --seconds, and sheets that show the
    true and rendered test images. Results of earlier commands in the folder are kept. If interrupted, the same command
    continues with the missing runs. With --avatar nothing is trained: the images of a trained avatar are timed.
    """

    output: Path
    """Folder of the results."""
    subjects: tuple[Path, ...] = ()
    """Capture folders; by default the demo person, made in --output.
    The suites quick and scaling, and --avatar, take one capture."""
    suite: Literal["ablation", "quick", "full", "scaling"] = "ablation"
    """ablation: runs of --variants.
    scaling: the cost of a training step, and how it grows with frames, image size and number of parts.
    quick: scaling, three short runs and the rendering speed; takes minutes.
    full: everything in docs/benchmarks.md; takes more than an hour for two captures.
    Only ablation uses --seconds, --seeds and --split; only ablation and --avatar use --num-test."""
    seconds: tuple[float, ...] = (60.0,)
    """Training times, seconds. Each is a run of its own, so several times show how quality grows."""
    seeds: int = 3
    """Runs of each variant, with seeds counted from 0."""
    variants: tuple[str, ...] = ()
    """Variants to train; by default those of the parts and their assignment.
    The error message for an unknown name lists all variants."""
    held_out: Literal["test", "tune", "none"] = "test"
    """Images to measure.
    test: the test split.
    tune: the last fifth of the training frames, for choosing settings.
    none: the test split, after training on it too; the remaining error is not due to generalisation."""
    split: SplitName | None = None
    """Split by time in place of the captures' own.
    last: test on the last 30% of the frames.
    interleaved: test on every fifth frame, whose neighbours are trained on.
    published: test on the last 350 frames, or on the last fifth of short captures."""
    refit: bool = False
    """Also measure the images after the pose and expression of each were fitted to its pixels, with the avatar frozen.
    The table of losses then separates registration from quality. Each fit takes about as long as ten images."""
    avatar: Path | None = None
    """Run folder or avatar file. Its images are timed, and compared with the capture in --subjects if there is one."""
    sizes: tuple[int, ...] = (128, 256, 512)
    """Longer sides in pixels of the images that --avatar times."""
    head_model: Path | None = None
    """Head model file, if the captures do not contain it or if it was moved since the avatar was trained."""
    num_test: int = 15
    """Images measured by each run, evenly spread over the held-out frames."""
    device: str = "auto"
    """Device to train and render on: auto, cpu, cuda or cuda:N."""
    jobs: int | None = None
    """Runs in parallel, each on one thread; by default one per core, and one on a GPU."""
    keep_avatars: bool = False
    """Keep the avatar of every run."""

    def __call__(self) -> None:
        from partnerface_ns.bench.results import Results
        from partnerface_ns.bench.suites import run_suite
        from partnerface_ns.common.files import require_writable
        from partnerface_ns.common.locks import lock_folder

        self._check_options()
        self._check_captures()
        Results.read(self.output)
        require_writable(self.output)
        self.output.mkdir(parents=True, exist_ok=True)
        with lock_folder(self.output):  # a second command would repeat the same runs and overwrite results
            benchmark = self._benchmark()
            avatar = run_suite(benchmark, self.suite, self.avatar, self.sizes)
            print(f"{self.output / 'bench.md'}:\n\n{benchmark.results().report()}")
        if avatar is not None:
            print(f"Next:\n  {command('partnerface', 'drive', avatar, '--motion', 'talk', '--output', 'talk.mp4')}")

    def _benchmark(self) -> Benchmark:
        from partnerface_ns.bench.benchmark import Benchmark, demo_capture
        from partnerface_ns.bench.variants import ABLATION
        from partnerface_ns.cli.avatars import open_player, usable_device

        captures = self.subjects
        if not captures and self.avatar is None:
            captures = (demo_capture(self.output),)
        return Benchmark(
            self.output,
            captures,
            self.variants or tuple(ABLATION),
            self.seconds,
            self.seeds,
            usable_device(self.device),
            lambda avatar: open_player(avatar, self.head_model, self.device),
            self.held_out,
            self.num_test,
            self.head_model,
            self.jobs,
            self.keep_avatars,
            self.split,
            self.refit,
        )

    def _check_options(self) -> None:
        """Refuse options that are out of range or contradict each other.

        Raises:
            InputError: an option cannot be used.
        """
        from partnerface_ns.bench.variants import VARIANTS

        numbers = {"--seeds": self.seeds, "--num-test": self.num_test, "--jobs": 1 if self.jobs is None else self.jobs}
        for name, number in numbers.items():
            if number < 1:
                raise InputError(name, "out of range", expected="1 or more", actual=number)
        if not self.sizes or min(self.sizes) < 1:
            given = " ".join(map(str, self.sizes)) or "none"
            raise InputError("--sizes", "out of range", expected="1 or more pixels", actual=given)
        if not self.seconds or min(self.seconds) <= 0:
            given = " ".join(f"{seconds:g}" for seconds in self.seconds) or "none"
            raise InputError("--seconds", "out of range", expected="more than 0", actual=given)
        is_ablation = self.avatar is None and self.suite == "ablation"
        if self.avatar is not None and self.suite != "ablation":
            raise InputError("--suite", "cannot be combined with --avatar", expected="no --suite", actual=self.suite)
        of_ablation = {"--variants": " ".join(self.variants), "--split": self.split or ""}
        for name, given in of_ablation.items():
            if given and not is_ablation:
                expected = "--suite ablation without --avatar"
                raise InputError(name, "cannot be used here", expected=expected, actual=given)
        unknown = [name for name in self.variants if name not in VARIANTS]
        if unknown:
            raise InputError(
                "--variants", "unknown variant", expected=", ".join(map(repr, VARIANTS)), actual=unknown[0]
            )
        if self.output.exists() and not self.output.is_dir():
            raise InputError("--output", "not a folder", expected="a new folder, or a benchmark's", actual=self.output)

    def _check_captures(self) -> None:
        """Refuse captures that cannot be trained on, and print their warnings.

        Raises:
            InputError: a capture cannot be used, or there are too many, or two of the same name.
        """
        from partnerface_ns.capture.load_with_head_model import load_with_head_model

        if len(self.subjects) > 1 and (self.avatar is not None or self.suite in ("quick", "scaling")):
            problem = "takes one capture with --avatar and in the suites quick and scaling"
            raise InputError("--subjects", problem, expected=1, actual=len(self.subjects))
        if len({folder.resolve().name for folder in self.subjects}) < len(self.subjects):
            given = ", ".join(str(folder) for folder in self.subjects)
            problem = "two captures have the same name, which identifies their results"
            raise InputError("--subjects", problem, expected="folders of different names", actual=given)
        for folder in self.subjects:
            capture, _ = load_with_head_model(folder, head_model=self.head_model, split=self.split)
            for warning in capture.warnings:
                print(f"{capture.name}: Warning: {warning}")
