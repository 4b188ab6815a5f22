"""A run is the folder of its config.yml, which may be moved, copied, damaged, read-only, or without its capture."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from nerfstudio.scripts.eval import ComputePSNR
from nerfstudio.scripts.render import DatasetRender
from nerfstudio.utils import writer
from nerfstudio.utils.eval_utils import eval_setup
from plugin.conftest import _start, tiny

from partnerface_ns.cli.main import main
from partnerface_ns.common.errors import InputError
from partnerface_ns.plugin import checkpoints, trainer
from partnerface_ns.plugin.checkpoints import find_newest_checkpoint, list_checkpoints, write_complete_checkpoints
from partnerface_ns.plugin.config_file import read_config
from partnerface_ns.plugin.configs import lite


@pytest.fixture(scope="module")
def trained(subject, tmp_path_factory) -> Path:
    """A run of two steps."""
    config = tiny(lite())
    config.pipeline.datamanager.data, config.max_num_iterations = subject, 2
    config.pipeline.model.avatar.space.resolution = 16
    config.output_dir, config.timestamp = tmp_path_factory.mktemp("trained"), "run"
    config.set_timestamp()
    config.save_config()
    _start(config).train()
    for event_writer in writer.EVENT_WRITERS:  # the folder is moved: nothing may still be written into it
        event_writer.tb_writer.close()
    return config.get_base_dir()


@pytest.fixture
def run(trained, tmp_path) -> Iterator[Path]:
    """A copy of the trained run, which is hidden meanwhile."""
    hidden = Path(shutil.move(trained, tmp_path / "hidden"))
    run = shutil.copytree(hidden, tmp_path / "runs" / "run")
    yield run
    shutil.move(hidden, trained)


def newest(run: Path) -> Path:
    return list_checkpoints(run / "nerfstudio_models")[-1]


def drive(run: Path) -> list[str]:
    return ["drive", str(run), "--motion", "talk", "--size", "16", "--max-frames", "1"]


def add_older(run: Path) -> Path:
    return Path(shutil.copy(newest(run), run / "nerfstudio_models" / "step-000000000.ckpt"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


# -- where a run is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["ns-eval", "report"])
def test_a_copied_run_is_evaluated_and_its_original_stays_unchanged(run, tmp_path, monkeypatch, command):
    copy = shutil.copytree(run, tmp_path / "a copy" / "Zoë's [run]")
    content = torch.load(newest(copy), weights_only=True)
    weights = content["pipeline"]
    weights.update({name: value + 0.5 for name, value in weights.items() if ".planes." in name})
    torch.save(content, newest(copy))
    before = files_of(run)
    monkeypatch.chdir(tmp_path)
    if command == "ns-eval":
        monkeypatch.setattr("sys.argv", ["ns-eval"])
        ComputePSNR(Path("a copy/Zoë's [run]/config.yml"), tmp_path / "eval.json").main()
        assert json.loads((tmp_path / "eval.json").read_text())["checkpoint"] == str(newest(copy))
    else:
        main(["report", "a copy/Zoë's [run]"])
    assert files_of(run) == before
    with (copy / "per_image.csv").open() as file:
        (digest,) = {row["weights"] for row in csv.DictReader(file)}
    _, original, _, _ = eval_setup(run / "config.yml")
    assert digest != original.weights_digest()


def test_a_moved_run_is_found(run, tmp_path):
    moved = Path(shutil.move(run, tmp_path / "moved"))
    config, pipeline, path, step = eval_setup(moved / "config.yml", test_mode="inference")
    assert path == newest(moved) and step == 1
    assert config.get_base_dir() == pipeline.config.run_folder == moved


def test_the_settings_of_a_run_start_a_new_one(run, capsys):
    config = yaml.load((run / "config.yml").read_text(), Loader=yaml.Loader)  # as ns-train --load-config does
    assert config == read_config(run / "config.yml")
    config.set_timestamp()
    assert config.get_base_dir().name != "run" and config.pipeline.run_folder != run


def test_figures_of_other_weights_are_computed_again(run):
    main(["report", str(run)])
    table = run / "per_image.csv"
    main(["report", str(run)])
    os.utime(table, ns=(1, 1))
    main(["report", str(run)])
    assert table.stat().st_mtime_ns == 1, "the weights count, not the age of the file"
    table.write_text(table.read_text().replace(newest_digest(table), "0" * 12))
    main(["report", str(run)])
    assert newest_digest(table) != "0" * 12


def newest_digest(table: Path) -> str:
    with table.open() as file:
        return next(csv.DictReader(file))["weights"]


# -- config.yml --------------------------------------------------------------------------------------------------


def with_text(run: Path, *changes: tuple[str, str]) -> Path:
    path = run / "config.yml"
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)
    return path


HOSTILE = ("!!python/object/apply:os.mkdir ['{}']", "!!python/object/new:os.mkdir ['{}']", "!!python/name:os.mkdir ''")


@pytest.mark.parametrize("code", HOSTILE)
def test_code_in_a_config_file_is_not_run(run, tmp_path, code, capsys):
    trap = tmp_path / "trap"
    with_text(run, ("max_num_iterations: 2", f"max_num_iterations: {code.format(trap)}"))
    main([*drive(run), "--output", str(tmp_path / "a.npz")])  # reads avatar.pt alone
    main(["export", str(run), "--output", str(tmp_path / "parts")])
    (run / "avatar.pt").unlink()
    played = [str(run), "--motion", "talk"]
    commands = (["report", str(run)], ["drive", *played, "--output", "a.npz"], ["live", *played])
    for arguments in (*commands, ["export", str(run), "--output", str(tmp_path / "export")]):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 1 and "config.yml" in capsys.readouterr().err
    with pytest.raises(InputError):
        eval_setup(run / "config.yml")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("change", "key", "problem"),
    [
        (("num_parts: 4", "glow: 0.5\n      num_parts: 4"), "pipeline.model.avatar.glow", "another version"),
        (("num_parts: 4", "num_parts: many"), "pipeline.model.avatar.num_parts", "wrong kind"),
        (("num_parts: 4", "num_parts: .inf"), "pipeline.model.avatar.num_parts", "wrong kind"),
        (("deformation: parts", "deformation: bits"), "pipeline.model.avatar.deformation", "wrong kind"),
        (("pipeline.PartnerfacePipelineConfig", "pipeline.OldConfig"), None, "another version"),
        (("method_name: partnerface-lite", "method_name: mine"), "method_name", "unknown method"),
        (("vis: tensorboard", ""), None, "incomplete"),
    ],
)
def test_a_config_of_another_version_is_refused_in_one_line(run, change, key, problem):
    path = with_text(run, change)
    for read in (read_config, eval_setup):
        with pytest.raises(InputError, match=problem) as error:
            read(path)
        assert error.value.key == key and error.value.source == str(path)


def test_missing_settings_have_the_methods_defaults_and_are_named(run, capsys):
    config = read_config(with_text(run, ("      num_parts: 4\n", "")))
    assert config.pipeline.model.avatar.num_parts == 8
    assert "pipeline.model.avatar.num_parts" in capsys.readouterr().out


def test_a_run_of_another_method_is_refused_before_it_is_read(tmp_path, capsys):
    (tmp_path / "config.yml").write_text(
        "!!python/object:nerfstudio.engine.trainer.TrainerConfig\nmethod_name: nerfacto\n"
    )
    for arguments in (["report", str(tmp_path)], ["drive", str(tmp_path), "--motion", "talk"]):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 1 and "nerfacto" in capsys.readouterr().err


# -- checkpoints -------------------------------------------------------------------------------------------------


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
    assert f"--load-dir {taken / 'nerfstudio_models'}" in str(error.value)
    assert files_of(taken) == before
    assert make_config("taken", load_dir=taken, max_num_iterations=3).load_step == 1


@pytest.mark.parametrize("budget", [{"max_num_iterations": 2}, {"max_num_iterations": 9, "max_train_minutes": 1e-9}])
def test_a_resume_with_nothing_left_to_train_names_the_limits(run, make_config, budget, tmp_path):
    with pytest.raises(InputError, match="nothing is left to train") as error:
        make_config("again", load_dir=run / "nerfstudio_models", **budget)
    message = str(error.value)
    assert "2 steps" in message and all(f"{value:g}" in message for value in budget.values())
    assert not list(tmp_path.rglob("again"))


# -- a run without its capture, avatar file or permission to write ------------------------------------------------


def test_without_its_capture_a_run_is_shown_from_its_avatar(run, monkeypatch, capsys, tmp_path):
    config = read_config(run / "config.yml")
    gone = config.data.with_name("gone")
    path = run / "config.yml"
    path.write_text(path.read_text().replace(f"- {config.data.name}\n", f"- {gone.name}\n"))
    monkeypatch.setattr("sys.argv", ["ns-viewer", "--load-config", str(path)])
    _, pipeline, _, _ = eval_setup(path)
    assert f"{gone}: the capture is missing" in capsys.readouterr().out
    camera = pipeline.datamanager.train_dataset.cameras[0:1]
    shown = pipeline.model.get_outputs_for_camera(camera)["rgb"]
    assert np.isfinite(shown.numpy()).all() and pipeline.model.head_controls._info.lowest.expression.any()
    for program in (["ns-eval"], ["ns-render", "dataset"], ["ns-export", "tsdf"]):
        monkeypatch.setattr("sys.argv", program)
        with pytest.raises(InputError, match="does not exist") as error:
            eval_setup(path)
        assert "--data" in str(error.value)
    main(["report", str(run), "--data", str(config.data), "--output", str(tmp_path / "shown")])
    assert (tmp_path / "shown" / "figures.md").is_file() and not (run / "report").exists()


def test_an_unwritable_run_keeps_its_figures(run, monkeypatch, tmp_path, capsys):
    (run / f".per_image.{os.getpid()}.partial.csv").mkdir()  # permissions do not hold for root
    monkeypatch.setattr("sys.argv", ["ns-eval", "--output-path", str(tmp_path / "eval.json")])
    ComputePSNR(run / "config.yml", tmp_path / "eval.json").main()
    assert (tmp_path / "eval.json").is_file() and (tmp_path / "eval_per_image.csv").is_file()
    assert f"{run / 'per_image.csv'}: not written" in capsys.readouterr().out
    main(["report", str(run), "--output", str(tmp_path / "report")])
    assert "2 test images" in (tmp_path / "report" / "figures.md").read_text().replace("images", "images")


def test_a_missing_or_damaged_avatar_file_is_written_from_the_checkpoint(run, capsys, tmp_path):
    avatar = run / "avatar.pt"
    whole = torch.load(avatar, weights_only=True)
    for number, damage in enumerate((Path.unlink, cut)):
        damage(avatar)
        main([*drive(run), "--output", str(tmp_path / f"{number}.npz")])
        assert "taken from the checkpoint" in capsys.readouterr().out
        again = torch.load(avatar, weights_only=True)
        assert all(torch.equal(value, again["state"][name]) for name, value in whole["state"].items())
    avatar.unlink()
    avatar.mkdir()
    with pytest.raises(SystemExit):
        main([*drive(run), "--output", str(tmp_path / "folder.npz")])
    assert "is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["pointcloud", "poisson", "marching-cubes", "gaussian-splat"])
def test_impossible_exports_name_the_possible_ones(run, monkeypatch, command):
    monkeypatch.setattr("sys.argv", ["/bin/ns-export", command, "--load-config", "a"])
    monkeypatch.setattr(trainer.FlameDataParserConfig, "setup", lambda self: pytest.fail("the capture was read"))
    with pytest.raises(InputError, match="ns-export tsdf") as error:
        eval_setup(run / "config.yml")
    assert "partnerface export" in str(error.value) and error.value.source == f"ns-export {command}"


def test_tsdf_sees_one_head_in_all_images(run):
    """The exporter fuses the images of all cameras into one surface."""
    _, pipeline, _, _ = eval_setup(run / "config.yml")
    model, cameras = pipeline.model, pipeline.datamanager.train_dataset.cameras
    first, second = (
        model.get_outputs_for_camera_ray_bundle(cameras.generate_rays(camera_indices=index)) for index in (0, 1)
    )
    assert torch.equal(cameras[0].camera_to_worlds, cameras[1].camera_to_worlds)
    assert torch.equal(first["rgb"], second["rgb"]) and first["depth"].shape == (*first["rgb"].shape[:2], 1)
    assert not torch.equal(first["rgb"], model.get_outputs_for_camera(cameras[1:2])["rgb"])


def test_settings_are_read_in_a_process_without_nerfstudio_imports():
    """As `partnerface report` does: nerfstudio's modules import each other in a circle."""
    program = "import partnerface_ns.plugin.config_file"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
