"""Command lines that users copy."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from partnerface_ns.common.command_lines import command, commands_after_training, train_command


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """This environment's folder of programs, with one test program in it."""
    (tmp_path / "ns-train").touch()
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    return tmp_path


def test_arguments_are_quoted(programs, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: str(programs / name))
    assert command("ns-train", "a b", 10) == "ns-train 'a b' 10"


def test_a_program_of_another_environment_is_not_used(programs, monkeypatch):
    (programs / "other").touch()
    monkeypatch.setattr("shutil.which", lambda name: str(programs / "other"))
    assert command("ns-train") == str(programs / "ns-train")


def test_a_program_that_is_not_on_the_path_is_named_in_full(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("sys.executable", "/opt/some env/bin/python")
    assert shlex.split(command("ns-eval"))[0] == "/opt/some env/bin/ns-eval"


def test_the_training_command_keeps_the_head_model_option():
    words = shlex.split(train_command(Path("folder"), Path("flame.pkl"), "insta"))
    assert words[-5:] == ["--head-model", "flame.pkl", "flame-data", "--format", "insta"]


def test_commands_after_training_name_the_run():
    assert all("runs/one" in line for line in commands_after_training(Path("runs/one")))
