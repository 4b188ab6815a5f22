"""A run is the folder of its config.yml, which may be moved, copied, read-only, or without its capture."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from nerfstudio.scripts.eval import ComputePSNR
from nerfstudio.utils.eval_utils import eval_setup
from plugin.run_files import cut, drive, files_of, newest, with_text

from partnerface_ns.cli.main import main
from partnerface_ns.common.errors import InputError
from partnerface_ns.plugin import trainer
from partnerface_ns.plugin.config_file import read_config

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


def test_the_settings_of_a_continued_run_start_a_new_one_without_its_checkpoint(run, make_config):
    config = make_config("continued", load_dir=run, max_num_iterations=9)
    again = read_config(config.get_base_dir() / "config.yml")
    assert again.load_dir == run / "nerfstudio_models" and again.load_step == 1
    shutil.rmtree(run)
    again.set_timestamp()
    assert again.load_dir is None and again.load_step is None and again.load_checkpoint is None


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
