"""Checkpoints of a run: the newest complete one is used, none is lost, and training continues from it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from nerfstudio.scripts.eval import ComputePSNR
from nerfstudio.scripts.render import DatasetRender
from nerfstudio.utils.eval_utils import eval_setup
from plugin.run_files import add_older, cut, drive, files_of, newest, with_text

from partnerface_ns.cli.main import main
from partnerface_ns.common.errors import InputError
from partnerface_ns.plugin import checkpoints, trainer
from partnerface_ns.plugin.checkpoints import find_newest_checkpoint, write_complete_checkpoints


def test_the_newest_complete_checkpoint_is_used_and_damaged_ones_are_named(run, capsys):
    older = add_older(run)
    whole = newest(run).read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:middle], whole[:middle] + 1000 * b"?" + whole[middle + 1000 :], b"", b"x" * 100):
        newest(run).write_bytes(damaged)
        _, _, path, _ = eval_setup(run / "config.yml", test_mode="inference")
        assert path == older
        assert "step-000000001.ckpt" in capsys.readouterr().out


def test_other_files_are_ignored(run):
    folder = run / "nerfstudio_models"
    for name in (".DS_Store", "._step-000000009.ckpt", "notes.txt", "step-000000009.ckpt.partial", "step-best.ckpt"):
        (folder / name).write_bytes(b"x")
    (folder / "old").mkdir()
    assert find_newest_checkpoint(folder).path == newest(run)
    assert eval_setup(run / "config.yml", test_mode="inference")[2] == newest(run)


def test_without_a_complete_checkpoint_and_avatar_file_there_is_one_error(run, capsys):
    cut(newest(run))
    for damage in (cut, Path.unlink):
        damage(run / "avatar.pt")
        with pytest.raises(InputError, match="no complete checkpoint"):
            eval_setup(run / "config.yml")
        with pytest.raises(SystemExit):
            main(["report", str(run)])
        assert "no complete checkpoint" in capsys.readouterr().err


def test_a_run_without_a_complete_checkpoint_is_driven_by_its_avatar_file(run):
    cut(newest(run))
    main([*drive(run), "--output", str(run / "a.npz")])


@pytest.mark.parametrize("damage", [cut, Path.unlink, lambda path: shutil.rmtree(path.parent)])
def test_ns_eval_takes_the_avatar_file_if_no_checkpoint_can_be_read(run, tmp_path, monkeypatch, capsys, damage):
    monkeypatch.setattr("sys.argv", ["ns-eval"])
    monkeypatch.chdir(tmp_path)  # ns-eval's own values of every image lie beside its default result
    ComputePSNR(run / "config.yml", tmp_path / "expected.json").main()
    damage(newest(run))
    capsys.readouterr()
    ComputePSNR(run / "config.yml", tmp_path / "actual.json").main()
    lines = [line for line in capsys.readouterr().out.splitlines() if "is used" in line]
    assert len(lines) == 1 and "no complete checkpoint" in lines[0] and str(run / "avatar.pt") in lines[0]
    expected, actual = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("expected", "actual"))
    assert actual["checkpoint"] == str(run / "avatar.pt")
    for name in ("psnr", "ssim", "psnr_head", "l1"):
        assert actual["results"][name] == expected["results"][name]


def test_ns_render_and_the_viewer_take_the_avatar_file_for_any_capture(run, tmp_path, monkeypatch, head, write_subject):
    newest(run).unlink()
    monkeypatch.setattr("sys.argv", ["ns-viewer"])
    _, pipeline, path, step = eval_setup(run / "config.yml")
    assert path == run / "avatar.pt" and step == 1 and pipeline.model.image_renderer.fast
    other = write_subject(tmp_path / "other", head, 2, 5, seed=1)
    monkeypatch.setattr("sys.argv", ["ns-render", "dataset"])
    DatasetRender(run / "config.yml", output_path=tmp_path / "renders", data=other, image_format="png").main()
    assert len(list((tmp_path / "renders" / "test" / "rgb").iterdir())) == 5


def test_the_avatar_file_of_one_run_is_not_taken_for_the_next_run(run, capsys):
    """`eval_setup` is changed for one call only."""
    copy = shutil.copytree(run, run.with_name("copy"))
    newest(copy).unlink()
    with_text(copy, ("deformation: parts", "deformation: none"))
    with pytest.raises(InputError, match="does not fit"):
        eval_setup(copy / "config.yml")
    assert eval_setup(run / "config.yml")[2] == newest(run)


def test_a_failed_write_keeps_the_previous_checkpoint(make_config, start, monkeypatch):
    config = make_config(max_num_iterations=2, steps_per_save=1)
    config.pipeline.model.avatar.space.resolution = 16
    trained = start(config)
    trained.train()
    folder = config.get_checkpoint_dir()
    before = files_of(folder)

    def fail(content, path):
        Path(path).write_bytes(b"half")
        raise RuntimeError("[enforce fail] write failed: No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    trained.last_step = 7
    with pytest.raises(InputError, match="cannot be written"):
        trained.save_checkpoint(7)
    assert files_of(folder) == before and not folder.with_name("nerfstudio_models.partial").exists()


def test_a_checkpoint_appears_when_it_is_on_disk(tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(checkpoints, "sync", lambda path: events.append(("sync", path.name)))
    monkeypatch.setattr(checkpoints.os, "replace", lambda a, b: events.append(("name", b.name)))
    with write_complete_checkpoints(tmp_path / "models") as folder:
        torch.save({}, folder / "step-000000001.ckpt")
    assert events == [("sync", "step-000000001.ckpt"), ("name", "step-000000001.ckpt"), ("sync", "models")]


def test_a_checkpoint_that_cannot_be_read_back_replaces_no_other(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "step-000000001.ckpt").write_bytes(b"the previous one")
    with pytest.raises(InputError, match="damaged"), write_complete_checkpoints(folder) as partial:
        torch.save({"a": torch.zeros(100)}, partial / "step-000000003.ckpt")
        cut(partial / "step-000000003.ckpt")
    assert os.listdir(folder) == ["step-000000001.ckpt"] and os.listdir(tmp_path) == ["models"]


def test_a_checkpoint_of_another_method_is_skipped_with_one_line(run, capsys):
    foreign = {"step": 9, "pipeline": {"_model.field.weight": torch.zeros(2)}, "optimizers": {}}
    torch.save(foreign, run / "nerfstudio_models" / "step-000000009.ckpt")
    assert find_newest_checkpoint(run / "nerfstudio_models").path.name == "step-000000001.ckpt"
    (line,) = capsys.readouterr().out.splitlines()
    assert "foreign, and skipped: step-000000009.ckpt" in line


def test_a_run_of_an_earlier_version_can_be_resumed(run, make_config, start):
    """Its checkpoints do not hold the progress."""
    content = torch.load(newest(run), weights_only=True)
    del content["pipeline"]["_model.progress"]
    torch.save(content, newest(run))
    config = make_config("again", load_dir=run)
    config.pipeline.model.avatar.space.resolution = 16
    assert start(config)._start_step == 2


@pytest.mark.parametrize("damage", ["read-only", "in use"])
def test_a_folder_that_cannot_be_used_is_one_error_before_anything_is_written(make_config, damage, monkeypatch):
    config = make_config("taken")  # holds the folder until this process ends
    before = files_of(config.get_base_dir())
    if damage == "in use":
        with pytest.raises(InputError, match="another command is writing here"):
            make_config("taken")
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
        with pytest.raises(InputError, match="is not writable") as error:
            make_config("other")
        assert "--output-dir" in str(error.value) and not config.get_base_dir().with_name("other").exists()
    assert files_of(config.get_base_dir()) == before


def test_a_full_disk_is_one_error_that_says_how_to_go_on(make_config, start, monkeypatch):
    config = make_config(max_num_iterations=4, steps_per_save=2)
    config.pipeline.model.avatar.space.resolution = 16
    trained = start(config)

    def fail(path, avatar, info):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(trainer, "save_avatar", fail)
    with pytest.raises(InputError, match=r"avatar.pt: cannot be written; the checkpoint is complete") as error:
        trained.train()
    assert "resume with --load-dir" in str(error.value)
    assert find_newest_checkpoint(config.get_checkpoint_dir()).step == 2


def test_training_keeps_one_checkpoint_and_all_other_files(make_config, start):
    config = make_config(max_num_iterations=3, steps_per_save=1)
    config.pipeline.model.avatar.space.resolution = 16
    folder = config.get_checkpoint_dir()
    folder.mkdir()
    (folder / "notes.txt").write_text("the good one")
    start(config).train()
    assert sorted(os.listdir(folder)) == ["notes.txt", "step-000000002.ckpt"]


# -- resuming ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", ["nothing", "older"])
def test_a_resume_without_a_complete_checkpoint_creates_no_folder(run, make_config, whole, tmp_path):
    if whole == "older":
        add_older(run)
    cut(newest(run))
    if whole == "older":
        config = make_config("again", load_dir=run)
        assert config.load_step == 0 and config.load_dir == run / "nerfstudio_models"
        return
    with pytest.raises(InputError, match="no complete checkpoint"):
        make_config("again", load_dir=run / "nerfstudio_models")
    with pytest.raises(InputError, match="damaged"):
        make_config("again", load_checkpoint=newest(run))
    assert not list(tmp_path.rglob("again"))


@pytest.mark.parametrize("start", ["from nothing", "from another run"])
def test_a_run_is_never_replaced_by_one_that_starts_again(run, make_config, start, tmp_path):
    """Two machines may start the same run one after the other. The first one's weights stay."""
    taken = tmp_path / "out" / "subject" / "partnerface-lite" / "taken"
    shutil.copytree(run, taken)
    before = files_of(taken)
    load_dir = None if start == "from nothing" else run
    with pytest.raises(InputError, match="already holds a run") as error:
        make_config("taken", load_dir=load_dir)
    assert f"--load-dir {taken / 'nerfstudio_models'};" in str(error.value)
    assert files_of(taken) == before
    assert make_config("taken", load_dir=taken, max_num_iterations=3).load_step == 1


def test_a_run_behind_a_link_continues_in_its_folder(run, make_config, tmp_path):
    link = tmp_path / "out" / "subject" / "partnerface-lite" / "linked"
    link.parent.mkdir(parents=True)
    link.symlink_to(run)
    assert make_config("linked", load_dir=link / "nerfstudio_models", max_num_iterations=3).load_step == 1


@pytest.mark.parametrize("budget", [{"max_num_iterations": 2}, {"max_num_iterations": 9, "max_train_minutes": 1e-9}])
def test_a_resume_with_nothing_left_to_train_names_the_limits(run, make_config, budget, tmp_path):
    with pytest.raises(InputError, match="nothing is left to train") as error:
        make_config("again", load_dir=run / "nerfstudio_models", **budget)
    message = str(error.value)
    assert "2 steps" in message and all(f"{value:g}" in message for value in budget.values())
    assert not list(tmp_path.rglob("again"))
