"""The stages of a long command: which are done, one progress display for all, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from partnerface_ns.cli.resumable import ResumableFolder
from partnerface_ns.common.progress import LOG_INTERVAL, listen_to_progress


@dataclass(frozen=True)
class Stage:
    """One stage of a command. Running it again does only what is missing."""

    name: str
    """Name in the record."""
    title: str
    """What is shown while it runs."""
    run: Callable[[], None]
    output: Path
    """The file or folder that appears last. The stage is done if it exists and the record names the stage."""
    seconds: float
    """Expected duration, for the time left."""
    loops: Mapping[str, float] = field(default_factory=dict)
    """Labels of its loops in order (`common/progress.py`), and their relative durations."""

    def share_done(self, label: str, done: float) -> float | None:
        """Share of the stage that is done when the share `done` of a loop is; None if the loop is unknown."""
        if label not in self.loops:
            return None
        labels = list(self.loops)
        before = sum(self.loops[earlier] for earlier in labels[: labels.index(label)])
        return (before + done * self.loops[label]) / sum(self.loops.values())


def run_stages(place: ResumableFolder, options: Mapping[str, object], stages: Sequence[Stage], log: Path) -> None:
    """Run the first stage that is not done and all later ones, in order, and record each.

    Args:
        place: the command's folder, whose record holds `options` and `done`, the seconds of each finished stage.
        options: the command's options, for the record.
        stages: all stages.
        log: file to which everything that the stages print is appended.
    """
    record = place.read()
    done = {} if record is None else dict(record.values["done"])
    first = next((i for i, s in enumerate(stages) if s.name not in done or not s.output.exists()), len(stages))
    finished = {stage.name: done[stage.name] for stage in stages[:first]}
    place.write({"options": options, "done": finished})
    with StageDisplay(stages, first) as display, log.open("a", encoding="utf8") as file:
        for index in range(first, len(stages)):
            stage, began = stages[index], time.monotonic()
            display.begin(index)
            print(f"== {stage.title}", file=file, flush=True)
            with redirect_stdout(file), redirect_stderr(file), listen_to_progress(display.update):
                stage.run()
            finished[stage.name] = round(time.monotonic() - began, 1)
            place.write({"options": options, "done": finished})


def seconds_left(stages: Sequence[Stage], index: int, done: float, elapsed: float) -> float:
    """Seconds until the end of the last stage.

    The expected duration of the current stage gives way to the measured one as the stage proceeds.

    Args:
        stages: all stages.
        index: the current stage.
        done: share of it that is done, 0 to 1.
        elapsed: seconds since it began.
    """
    duration = (1 - done) * stages[index].seconds + elapsed
    return (1 - done) * duration + sum(stage.seconds for stage in stages[index + 1 :])


class StageDisplay:
    """One line for all stages: number and name of the stage, what it does, share done, and the time left.

    On a terminal it is a bar. In a log it is a line at the start of each stage and every 15 seconds.
    """

    def __init__(self, stages: Sequence[Stage], first: int) -> None:
        """
        Args:
            stages: all stages.
            first: the first stage that runs; earlier ones are done.
        """
        self._stages, self._console = stages, Console(file=sys.stderr)  # also while stages print to the log
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._bar = Progress(*columns, console=self._console, transient=True) if self._console.is_terminal else None
        self._task = None if self._bar is None else self._bar.add_task("", total=1.0, left="")
        self._all_before = [sum(stage.seconds for stage in stages[:i]) for i in range(len(stages))]
        self._index, self._done, self._label = first, 0.0, ""
        self._began = self._last_line = time.monotonic()

    def __enter__(self) -> StageDisplay:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, index: int) -> None:
        """Show that a stage begins."""
        self._index, self._done, self._label = index, 0.0, ""
        self._began = time.monotonic()
        self._show(force=True)

    def update(self, label: str, done: float) -> None:
        """Show what a loop of the stage reports; loops that the stage does not list only change the text."""
        share = self._stages[self._index].share_done(label, done)
        self._label = label
        self._done = self._done if share is None else max(self._done, share)
        self._show(force=False)

    @property
    def text(self) -> str:
        """Number, title and current loop of the stage."""
        title = f"{self._index + 1} of {len(self._stages)}  {self._stages[self._index].title}"
        return f"{title}: {self._label.lower()}" if self._label else title

    def _show(self, force: bool) -> None:
        now = time.monotonic()
        left = seconds_left(self._stages, self._index, self._done, now - self._began)
        passed = self._all_before[self._index] + now - self._began
        if self._bar is not None and self._task is not None:
            share = passed / max(passed + left, 1e-6)
            self._bar.update(self._task, description=self.text, completed=share, left=time_in_words(left))
        elif force or now - self._last_line > LOG_INTERVAL:
            self._last_line = now
            line = f"{self.text} ({100 * self._done:.0f}%), {time_in_words(left)}"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def time_in_words(seconds: float) -> str:
    """A remaining time, such as `about 12 min left`."""
    if seconds < 60:
        return "less than a minute left"
    return f"about {seconds / 60:.0f} min left"
