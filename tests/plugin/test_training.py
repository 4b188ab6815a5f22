"""Runs of the trainer: schedule, end, and resume."""

from __future__ import annotations

import copy
import itertools
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from nerfstudio.configs.base_config import MachineConfig
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.engine.trainer import Trainer

from partnerface_ns.avatar.avatar import HARD, SOFT
from partnerface_ns.capture import image_memory
from partnerface_ns.common.errors import InputError
from partnerface_ns.plugin import schedule_callback
from partnerface_ns.training.rays import RaySampler
from partnerface_ns.training.schedule import LEARNING_RATES, Schedule, ScheduleConfig


def on_step(trainer, location, do):
    trainer.callbacks.append(TrainingCallback([location], do))


def noted(iterate, results: list):
    def iterate_and_note(trainer, step: int):
        results.append(iterate(trainer, step))
        return results[-1]

    return iterate_and_note


def poison_colors(monkeypatch, at) -> None:
    """The true colours of some steps are not finite."""
    sample = RaySampler.sample

    def poisoned(sampler: RaySampler, step: int):
        batch = sample(sampler, step)
        return replace(batch, rgb=batch.rgb * float("nan")) if step in at else batch

    monkeypatch.setattr(RaySampler, "sample", poisoned)


def interrupt_before(trainer, at: int):
    def stop(step: int) -> None:
        if step == at:
            raise KeyboardInterrupt

    on_step(trainer, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION, stop)


def test_every_step_has_the_stage_and_the_learning_rates_of_its_progress(make_config, start):
    trainer = start(make_config())
    stages, assigner_trains, rates = [], [], {"planes": [], "correction": []}

    def note(step: int) -> None:
        avatar = trainer.pipeline.model.avatar
        stages.append(int(avatar.stage))
        for name, values in rates.items():
            values.append(trainer.optimizers.optimizers[name].param_groups[0]["lr"])
        assigner_trains.append(any(p.grad is not None and bool(p.grad.any()) for p in avatar.assigner.parameters()))

    on_step(trainer, TrainingCallbackLocation.AFTER_TRAIN_ITERATION, note)
    trainer.train()
    assert stages == [HARD] * 3 + [SOFT] * 3
    assert assigner_trains == [False] * 3 + [True] * 3
    schedule = Schedule(ScheduleConfig(max_steps=6))
    for name, values in rates.items():
        assert values == pytest.approx(
            [LEARNING_RATES[name] * schedule.learning_rate_factor(s, name) for s in range(6)]
        )
    assert rates["correction"][:2] == [0, 0] and all(rates["correction"][2:])
    assert [p.name for p in trainer.checkpoint_dir.iterdir()] == ["step-000000005.ckpt"]


def test_our_steps_are_those_of_nerfstudio(make_config, start, monkeypatch):
    """nerfstudio computes gradients itself where they are to be logged."""
    ours, results = start(make_config("ours")), []
    iterate = ours.train_iteration
    ours.train_iteration = lambda step: results.append(iterate(step)) or results[-1]
    ours.train()
    theirs, logged = start(make_config("theirs", log_gradients=True)), []
    monkeypatch.setattr(Trainer, "train_iteration", noted(Trainer.train_iteration, logged))
    theirs.train()
    assert len(logged) == 6 and "Gradients/Total" in logged[-1][2]
    expected, actual = (trainer.pipeline.model.avatar.state_dict() for trainer in (theirs, ours))
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-4, atol=1e-6, msg=name)
    loss, terms, metrics = results[-1]
    assert len(results) == 6 and float(loss) == pytest.approx(sum(map(float, terms.values())))
    assert 0 < float(metrics["psnr"]) < 60


@pytest.mark.parametrize("options", [{}, {"log_gradients": True}, {"gradient_accumulation_steps": {"planes": 2}}])
def test_a_step_that_is_not_finite_is_left_out(make_config, start, monkeypatch, capsys, options):
    """Also where nerfstudio computes gradients."""
    trainer = start(make_config(**options))
    avatar, states = trainer.pipeline.model.avatar, []
    poison_colors(monkeypatch, {3})

    def note(step: int) -> None:
        optimizers = [o.state_dict()["state"] for o in trainer.optimizers.optimizers.values()]
        states.append(copy.deepcopy((dict(avatar.named_parameters()), avatar.grid.density, optimizers)))

    on_step(trainer, TrainingCallbackLocation.AFTER_TRAIN_ITERATION, note)
    trainer.train()
    (before, density, optimizers_before), (after, density_after, optimizers_after) = states[2:4]
    assert all(torch.equal(before[name], after[name]) for name in before) and torch.equal(density, density_after)
    for group, group_after in zip(optimizers_before, optimizers_after, strict=True):
        for parameter, values in group.items():
            assert all(torch.equal(value, group_after[parameter][name]) for name, value in values.items())
    assert all(value.isfinite().all() for value in avatar.state_dict().values())
    said = capsys.readouterr().err
    assert "Step 3 is left out (1 so far). Not finite: color" in said and ".png (timestep " in said


def test_ten_such_steps_end_a_run_with_one_error_and_its_checkpoint_stays(make_config, start, monkeypatch):
    trainer = start(make_config(max_num_iterations=30, steps_per_save=2))
    poison_colors(monkeypatch, range(5, 30))
    with pytest.raises(InputError, match=rf"{trainer.base_dir} \[step 14\]: the last 10.*\n.*\n.*color"):
        trainer.train()
    (checkpoint,) = trainer.checkpoint_dir.iterdir()
    weights = torch.load(checkpoint)["pipeline"]
    assert all(value.isfinite().all() for value in weights.values())
    resumed = start(make_config("resumed", load_dir=trainer.checkpoint_dir, max_num_iterations=30))
    assert resumed._start_step == int(checkpoint.stem.removeprefix("step-")) + 1


def test_mixed_precision_and_gradient_scaler_are_off_with_a_message(make_config, start, capsys):
    trainer = start(make_config(mixed_precision=True, use_grad_scaler=True))
    assert not trainer.grad_scaler.is_enabled() and not trainer.mixed_precision
    assert "do nothing" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("broken_at", [2, 3, 4])
@pytest.mark.parametrize("left_out", [(), (1, 4)])
def test_a_run_resumed_around_the_change_of_stage_equals_an_unbroken_one(
    make_config, broken_at, start, monkeypatch, left_out
):
    poison_colors(monkeypatch, left_out)
    unbroken = start(make_config("unbroken"))
    unbroken.train()

    broken = start(make_config("broken"))
    interrupt_before(broken, broken_at)
    with pytest.raises(SystemExit, match="130"):
        broken.train()
    resumed = start(make_config("resumed", load_dir=broken.checkpoint_dir))
    resumed.train()

    expected, actual = (t.pipeline.model.avatar.state_dict() for t in (unbroken, resumed))
    assert expected.keys() == actual.keys()
    differing = [name for name in expected if not torch.equal(expected[name], actual[name])]
    assert differing == []
    assert resumed.last_step == unbroken.last_step == 5


def test_minutes_end_a_run_and_count_on_after_a_resume(make_config, start, monkeypatch):
    ticks = itertools.count(step=0.05)  # a step takes 0.05 seconds
    monkeypatch.setattr(schedule_callback, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    first = start(make_config("first", max_num_iterations=1000, max_train_minutes=0.01))
    first.train()
    trained = float(first.pipeline.model.trained_seconds)
    assert trained == pytest.approx(0.6, abs=0.06)
    assert first.last_step + 1 == pytest.approx(trained / 0.05)

    config = make_config("again", max_num_iterations=1000, max_train_minutes=0.01)
    config.load_dir = first.checkpoint_dir  # as the demo does
    again = start(config)
    again.train()
    assert float(again.pipeline.model.trained_seconds) == pytest.approx(trained)
    assert again.last_step == first.last_step, "nothing was left to train"


SAME_BUDGET, SMALLER, LARGER = "", "is smaller .* from 80%, not 50%", "is larger .* 33% .* at 50% until"


@pytest.mark.parametrize(("budget", "said"), [(5, SMALLER), (8, SAME_BUDGET), (12, LARGER)])
def test_a_run_continued_with_another_budget_never_steps_back(make_config, start, capsys, budget, said):
    """Four of eight steps are trained, up to the change of stage."""
    rates, stages = [], []

    def watched(name: str, **options):
        trainer = start(make_config(name, **options))

        def note(step: int) -> None:
            warmup = (step + 1) / ScheduleConfig().warmup_steps
            rates.append(trainer.optimizers.optimizers["planes"].param_groups[0]["lr"] / warmup)
            stages.append(int(trainer.pipeline.model.avatar.stage))

        on_step(trainer, TrainingCallbackLocation.AFTER_TRAIN_ITERATION, note)
        return trainer

    first = watched("first", max_num_iterations=8)
    interrupt_before(first, 4)
    with pytest.raises(SystemExit):
        first.train()
    capsys.readouterr()
    again = watched("again", load_dir=first.checkpoint_dir, max_num_iterations=budget)
    again.train()
    assert again.last_step == budget - 1 and len(rates) == budget
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(rates))
    assert stages == [HARD] * 4 + [SOFT] * (budget - 4)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("The budget")]
    assert len(lines) == bool(said) and re.search(said, " ".join(lines))


def test_a_complete_run_continues_at_its_last_learning_rate(make_config, start):
    first = start(make_config("first", max_num_iterations=4))
    first.train()
    again = start(make_config("again", load_dir=first.checkpoint_dir, max_num_iterations=6))
    again.train()
    schedule = Schedule(ScheduleConfig(max_steps=6), least_progress=1.0)
    assert int(again.pipeline.model.avatar.stage) == SOFT and float(again.pipeline.model.progress) == 1
    assert again.optimizers.optimizers["planes"].param_groups[0]["lr"] == pytest.approx(
        LEARNING_RATES["planes"] * 0.03 * 6 / ScheduleConfig().warmup_steps
    )
    assert schedule.progress(5) == 1 and schedule.used_budget(5) == pytest.approx(5 / 6)


def test_training_goes_on_without_validation_images(make_config, start, subject, tmp_path, capsys):
    """They are read from disk while training runs."""
    moved = Path(shutil.copytree(subject, tmp_path / "moved"))
    trainer = start(make_config(data=moved, steps_per_eval_image=2, steps_per_eval_batch=2))
    shutil.rmtree(moved / "images")
    trainer.train()
    said = capsys.readouterr().err
    assert trainer.last_step == 5 and said.count("Training goes on without validation.") == 1
    assert "does not exist" in said and ".png" in said


@pytest.mark.parametrize("processes", [1, 2])
def test_images_that_do_not_fit_into_memory_are_refused(make_config, monkeypatch, processes, tmp_path):
    """Three images of 24 x 24 pixels, of which each process holds colours and masks."""
    needed = processes * 3 * 24 * 24 * 4
    monkeypatch.setattr(image_memory, "available_bytes", lambda: needed)  # three quarters may be used
    machine = MachineConfig(device_type="cpu", num_devices=processes)
    with pytest.raises(InputError, match="do not fit into memory") as error:
        make_config(machine=machine)
    assert "3 images of 24 x 24" in str(error.value) and "--downscale-factor 1.5`" in str(error.value)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(image_memory, "available_bytes", lambda: needed / 0.75)
    make_config(machine=machine)


@pytest.mark.parametrize("program", ["ns-train", "partnerface"])
def test_ns_train_says_what_is_next(make_config, start, monkeypatch, capsys, program):
    """The demo, which trains too, says it at its own end."""
    trainer = start(make_config(max_num_iterations=1))
    monkeypatch.setattr("sys.argv", [f"/somewhere/{program}", "partnerface"])
    trainer.train()
    said = capsys.readouterr().out.splitlines()
    assert ("Next:" in said) == (program == "ns-train")
    if program == "ns-train":
        viewer, evaluation, report, drive = said[said.index("Next:") + 1 :][:4]
        assert viewer.endswith(f"ns-viewer --load-config {trainer.base_dir / 'config.yml'}")
        assert "ns-eval" in evaluation and "report" in report and "drive" in drive
        assert (trainer.base_dir / "config.yml").parent.is_dir() and (trainer.base_dir / "avatar.pt").is_file()


def test_the_paths_of_a_run_do_not_depend_on_the_folder_it_was_started_in(make_config, subject, monkeypatch):
    monkeypatch.chdir(subject.parent)
    config = make_config(data=subject.relative_to(subject.parent))
    assert config.data == config.pipeline.datamanager.dataparser.data == subject
    assert config.output_dir.is_absolute()
    assert config.pipeline.run_folder == config.get_base_dir()


def test_a_checkpoint_of_other_settings_is_refused(make_config, start):
    trainer = start(make_config("first", max_num_iterations=1))
    trainer.train()
    config = make_config("other", load_dir=trainer.checkpoint_dir)
    config.pipeline.model.avatar.deformation = "none"
    with pytest.raises(InputError, match="does not fit"):
        start(config)


def test_no_array_of_the_head_model_lies_in_a_checkpoint(make_config, head, start):
    trainer = start(make_config())
    stored = trainer.pipeline.state_dict().values()
    for array in (head.template, head.identity_dirs, head.expression_dirs, head.skinning_weights, head.pose_dirs):
        assert not any(t.shape == array.shape and torch.equal(t.float().cpu(), array) for t in stored)


def test_unusable_data_stops_a_run_before_anything_is_written(make_config, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        make_config(data=tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()
