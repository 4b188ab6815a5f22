"""Runs of the benchmark on a tiny capture."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from partnerface_ns.bench import training_runs, variants
from partnerface_ns.bench.benchmark import Benchmark
from partnerface_ns.bench.machine import describe_machine
from partnerface_ns.bench.rendering import RenderingResult
from partnerface_ns.bench.results import Results
from partnerface_ns.bench.scaling import StepTimes
from partnerface_ns.bench.suites import QUICK_SIZES, SIZES
from partnerface_ns.bench.tables import draw_time_plot, losses_table, runs_table
from partnerface_ns.bench.training_runs import Job, RunResult, train_and_measure
from partnerface_ns.capture.load import load_capture
from partnerface_ns.cli.bench import Bench
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.demo.subject import make_subject
from partnerface_ns.driving.player import load
from partnerface_ns.training.presets import lite
from partnerface_ns.training.refit import Refitter

METRICS = {"psnr": 20.0, "psnr_head": 21.0, "psnr_mouth": 22.0, "psnr_eyes": 23.0, "ssim_head": 0.5}


def outcome(variant: str, seed: int, steps: int, seconds: float, held_out: str = "test", **metrics: float) -> RunResult:
    return RunResult("subject", variant, seed, steps, seconds, METRICS | metrics, METRICS, 1.25, held_out)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "subject"
    make_subject(folder, frames=10, size=32)
    return folder


def test_a_run_measures_frames_outside_its_training_set(subject, monkeypatch, tmp_path, small_preset):
    seen = []
    monkeypatch.setitem(variants.VARIANTS, "two-stage", small_preset)
    fit, render = training_runs.fit, training_runs.render
    monkeypatch.setattr(training_runs, "fit", lambda a, p, *rest, **kw: seen.append(p.frames) or fit(a, p, *rest, **kw))
    monkeypatch.setattr(training_runs, "render", lambda a, f, s: seen.append(f) or render(a, f, s))
    result = train_and_measure(Job(subject, "two-stage", 0, 0.5, 2, images=tmp_path, avatars=tmp_path))
    trained, *measured, known = seen
    assert len(measured) == 2 and not {f.timestep for f in measured} & {f.timestep for f in trained}
    assert known in trained and result.seen != result.metrics and result.seen.keys() == result.metrics.keys()
    assert result.steps >= 1 and np.isfinite(result.metrics["psnr"]) and 0.1 < result.peak_gib < 50
    with Image.open(tmp_path / "subject-two-stage-0.5s-0.png") as shown:
        assert shown.width > 2 * 32 and shown.height > 2 * 32, "two frames, truth beside ours"
    assert load(tmp_path / "subject-two-stage-0.5s-0.pt").render()["rgb"].shape == (32, 32, 3)


def test_a_refit_is_measured_beside_the_tracked_head(subject, monkeypatch, small_preset):
    monkeypatch.setitem(variants.VARIANTS, "two-stage", small_preset)
    fitted = []
    refit = Refitter.refit
    monkeypatch.setattr(
        Refitter, "refit", lambda self, state, *image: fitted.append(state) or refit(self, state, *image)
    )
    result = train_and_measure(Job(subject, "two-stage", 0, 0.2, 1, refit=True, split="last"))
    assert len(fitted) == 1 and result.split == "last"
    assert result.refitted is not None and result.refitted.keys() == result.metrics.keys()
    assert result.refitted["psnr_head"] > result.metrics["psnr_head"] - 0.2, "the fit starts at the tracked state"
    table = losses_table([result, replace(result, seed=1)])
    row = [f"{metrics['psnr_head']:.2f}" for metrics in (result.seen, result.metrics, result.refitted)]
    assert f"| subject | two-stage | 1 of last test | 0.2 | {' | '.join(row)} |" in table
    unfitted = losses_table([replace(result, refitted=None)])
    assert f"| {row[0]} | {row[1]} | - |" in unfitted


def test_a_run_is_not_trained_on_torn_frames(subject, monkeypatch, tmp_path, small_preset, capsys):
    folder = shutil.copytree(subject, tmp_path / "torn")
    path = sorted((folder / "flame_param").iterdir())[2]
    with np.load(path) as stored:
        np.savez(path, **{**stored, "expr": np.full_like(stored["expr"], 9e4)})
    trained, fit = [], training_runs.fit
    monkeypatch.setitem(variants.VARIANTS, "two-stage", small_preset)
    monkeypatch.setattr(
        training_runs, "fit", lambda a, p, *rest, **kw: trained.extend(p.frames) or fit(a, p, *rest, **kw)
    )
    train_and_measure(Job(folder, "two-stage", 0, 0.1, 1))
    assert trained and 2 not in {frame.timestep for frame in trained}
    monkeypatch.setattr(Benchmark, "train_and_measure", lambda self: 0)
    Bench(tmp_path / "out", (folder,))()
    assert "Warning: the head is torn in 1 of 10 frames" in capsys.readouterr().out


def test_settings_are_chosen_by_training_frames_alone(subject):
    capture = load_capture(subject)
    of = {name: set(f.timestep for f in capture.frames_of(name)) for name in ("train", "test")}
    times = lambda frames: {f.timestep for f in frames}  # noqa: E731
    kept, tuned = map(times, training_runs.split_frames(capture, "tune"))
    assert kept | tuned == of["train"] and not kept & tuned and min(tuned) > max(kept)
    assert tuple(map(times, training_runs.split_frames(capture, "test"))) == (of["train"], of["test"])
    assert tuple(map(times, training_runs.split_frames(capture, "none"))) == (of["train"] | of["test"], of["test"])


def test_every_variant_differs_from_the_method_in_one_setting():
    method = lite()
    for name in variants.VARIANTS.keys() - variants.PRESETS.keys() - variants.OTHERS.keys():
        preset = variants.VARIANTS[name]()
        changed = [key for key, value in vars(preset.avatar).items() if value != vars(method.avatar)[key]]
        assert len(changed) == (name != "two-stage") and preset.sampler == method.sampler, name


def test_a_gpus_run_has_files_of_its_own(subject):
    names = {
        Job(subject, "hard", 0, 5.0, 1, held, device).name for held in ("test", "tune") for device in ("cpu", "cuda")
    }
    assert names == {f"{subject.name}-hard-{kind}5s-0" for kind in ("", "tune-", "gpu-", "tune-gpu-")}


def test_evenly_spread_frames_include_both_ends(subject):
    frames = load_capture(subject).frames_of("train")
    assert pick_evenly(frames, 3) == [frames[0], frames[3], frames[6]]
    assert pick_evenly(frames[:2], 5) == list(frames[:2])


def test_a_table_gives_mean_and_spread_over_seeds():
    rows = [outcome("hard", seed, 10, 1.0, psnr_head=20.0 + seed) for seed in (0, 1, 2)]
    table = runs_table(rows)
    assert "| subject | hard | 15 of test | 3 | CPU | 1 | 10 | 1.2 | 20.00 ± 0.00 | - | 21.00 ± 1.00 |" in table
    assert table.endswith("| 0.50 ± 0.00 | - | 21.00 ± 0.00 |\n") and len(table.splitlines()) == 3
    assert "±" not in runs_table(rows[:1])


def test_several_times_are_drawn(tmp_path):
    rows = [outcome("hard", seed, 10, t, psnr_head=t) for seed in (0, 1) for t in (10.0, 60.0)]
    draw_time_plot(rows, tmp_path / "bench.png")
    with Image.open(tmp_path / "bench.png") as plot:
        assert plot.width > 500
    assert [path.name for path in tmp_path.iterdir()] == ["bench.png"]
    table = runs_table(rows)
    assert all(f"| subject | hard | 15 of test | 2 | CPU | {t} |" in table for t in (10, 60))


def test_finished_runs_are_not_run_again(subject, tmp_path, capsys):
    Results([outcome("none", 0, 7, 60.0)]).write(tmp_path)
    Bench(tmp_path, (subject,), seeds=1, variants=("none",))()
    assert "| subject | none | 15 of test | 1 | CPU | 60 | 7 | 1.2 | 20.00 |" in capsys.readouterr().out
    for other in ({"seconds": (5.0,)}, {"held_out": "tune"}, {"num_test": 2}, {"split": "last"}, {"seeds": 2}):
        benchmark = Bench(tmp_path, (subject,), **{"seeds": 1, "variants": ("none",)} | other)._benchmark()
        assert len(replace(benchmark, device="cpu").missing_jobs()) == 1, "another run"
    assert len(replace(benchmark, device="cuda:0").missing_jobs()) == 2, "a GPU's are others"


def test_runs_of_other_options_stay_in_the_folder(subject, tmp_path, capsys):
    """A run that is added takes the place of the same run alone; the page shows all."""
    kept, done = outcome("none", 0, 7, 20.0, "tune"), outcome("none", 0, 9, 60.0)
    Results([kept]).write(tmp_path)
    bench = Bench(tmp_path, (subject,), seeds=1, variants=("none",))
    bench._benchmark().add(done)
    assert Results.read(tmp_path).runs == [kept, done]
    bench()
    assert Results.read(tmp_path).runs == [kept, done], "nothing was missing"
    said = capsys.readouterr().out
    assert "15 of tune" in said and "15 of test" in said


def test_a_folder_that_another_command_writes_to_is_refused(subject, tmp_path, monkeypatch):
    monkeypatch.setattr(Benchmark, "train_and_measure", lambda self: None)
    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="another"):
        Bench(tmp_path, (subject,))()
    Bench(tmp_path, (subject,))()
    Bench(tmp_path, (subject,))()


def test_a_failing_lock_is_reported(subject, tmp_path, monkeypatch):
    def refuse(lock):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    monkeypatch.setattr(Benchmark, "train_and_measure", lambda self: None)
    with pytest.raises(InputError, match=r"(?s)\.lock: cannot be locked.*not supported"):
        Bench(tmp_path, (subject,))()


@pytest.mark.parametrize(
    ("options", "avatar"),
    [
        ({"suite": "quick"}, "two-stage-60s-0"),
        ({"suite": "full"}, "two-stage-600s-0"),
        ({"suite": "scaling"}, None),
        ({}, None),
        ({"keep_avatars": True, "variants": ("hard", "none"), "seconds": (2.0, 9.0, 5.0)}, "hard-9s-0"),
    ],
)
def test_the_next_command_drives_the_kept_avatar(subject, tmp_path, monkeypatch, capsys, options, avatar):
    (tmp_path / "avatars").mkdir()
    (tmp_path / "avatars" / "a-two-stage-60s-0.pt").touch()
    monkeypatch.setattr(Benchmark, "train_and_measure", lambda self: 0)
    monkeypatch.setattr(Benchmark, "time_avatar", lambda *_: None)
    monkeypatch.setattr(Benchmark, "time_steps", lambda *_: None)
    Bench(tmp_path, (subject,), device="cpu", **options)()
    _, _, command = capsys.readouterr().out.partition("Next:\n")
    if avatar is None:
        assert not command
    else:
        assert f"partnerface drive {tmp_path}/avatars/{subject.name}-{avatar}.pt " in command


def test_suites_do_not_repeat_timings(subject, tmp_path, monkeypatch):
    steps = StepTimes(subject.name, describe_machine("cpu"), [], {})
    driven = RenderingResult(subject.name, f"{subject.name}-two-stage-60s-0", describe_machine("cpu"), [], None, 4)
    Results([], [driven], [steps]).write(tmp_path)
    done = []
    monkeypatch.setattr(Benchmark, "train_and_measure", lambda self: trained)
    trained = 0
    monkeypatch.setattr(Benchmark, "time_avatar", lambda self, avatar, sizes: done.append(sizes))
    monkeypatch.setattr(Benchmark, "time_steps", lambda self: done.append("steps"))
    Bench(tmp_path, (subject,), suite="quick", device="cpu")()
    assert not done
    other = shutil.copytree(subject, tmp_path / "other")
    Bench(tmp_path, (other,), suite="quick", device="cpu")()
    assert done == ["steps", QUICK_SIZES]
    trained = 1
    Bench(tmp_path, (subject,), suite="quick", device="cpu")()
    assert done[2:] == [QUICK_SIZES], "another avatar has other times"


def test_the_full_suite_trains_times_and_counts(subject, tmp_path, monkeypatch):
    done = []
    noted = lambda self: done.append((self.captures, self.variants, self.seconds, self.seeds)) or 0  # noqa: E731
    monkeypatch.setattr(Benchmark, "train_and_measure", noted)
    monkeypatch.setattr(
        Benchmark, "time_avatar", lambda self, avatar, sizes: done.append((self.captures[0].name, avatar.name, sizes))
    )
    monkeypatch.setattr(Benchmark, "time_steps", lambda self: done.append(self.captures))
    other = shutil.copytree(subject, tmp_path / "other")
    Bench(tmp_path, (subject, other), suite="full")()
    runs, longer, steps, *timed = done
    assert runs == ((subject, other), variants.FULL, (120.0,), 3)
    assert longer == ((subject, other), ("two-stage",), (300.0, 600.0), 1)
    assert steps == (subject,), "what a step takes is measured on one"
    assert timed == [(s.name, f"{s.name}-two-stage-600s-0.pt", SIZES) for s in (subject, other)]


@pytest.mark.parametrize(
    "changes", [{"seconds": (0.0,)}, {"seconds": (-3.0,)}, {"seconds": ()}, {"jobs": 0}, {"num_test": 0}, {"seeds": 0}]
)
def test_numbers_out_of_range_are_refused_before_anything_is_written(tmp_path, changes):
    with pytest.raises(InputError, match="out of range"):
        Bench(tmp_path / "out", **changes)()
    assert not (tmp_path / "out").exists()


def test_two_subjects_of_one_name_are_refused(subject, tmp_path):
    with pytest.raises(InputError, match="the same name"):
        Bench(tmp_path, (subject, subject))()


def test_an_unknown_variant_is_named(subject, tmp_path):
    with pytest.raises(InputError, match="unknown variant"):
        Bench(tmp_path, (subject,), variants=("nothing",))()


def test_a_capture_without_head_model_is_refused_before_anything_is_trained(subject, tmp_path):
    nameless = tmp_path / "nameless"
    shutil.copytree(subject, nameless)
    path = nameless / "transforms_train.json"
    path.write_text(path.read_text().replace("open-head", "FLAME 2023"))
    with pytest.raises(InputError, match="head model"):
        Bench(tmp_path / "out", (nameless,), seeds=1, variants=("none",))()


def test_an_interrupted_benchmark_keeps_finished_runs(subject, tmp_path):
    out = tmp_path / "out"
    a_short_one_and_long_ones = ("--variants", "none", "--seeds", "1", "--seconds", "2", "600", "1200", "--jobs", "1")
    words = ["bench", "--output", str(out), "--subjects", str(subject), "--num-test", "1", *a_short_one_and_long_ones]
    program = f"""
import signal
from partnerface_ns.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)
if __name__ == "__main__":
    main({words!r})
"""
    script = tmp_path / "script.py"
    script.write_text(program)
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, script], stdout=nowhere, stderr=nowhere, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while not Results.read(out).runs and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=120) == 130
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert [run.seconds for run in Results.read(out).runs] == [2.0]
