"""Command lines that users copy."""

from __future__ import annotations

import shlex
from pathlib import Path

from partnerface_ns.commands import after_training, command, to_train


def test_arguments_are_quoted(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert command("ns-train", "a b", 10) == "ns-train 'a b' 10"


def test_a_program_that_is_not_on_the_path_is_named_in_full(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("sys.executable", "/opt/some env/bin/python")
    assert shlex.split(command("ns-eval"))[0] == "/opt/some env/bin/ns-eval"


def test_a_capture_with_a_head_model_of_its_own_is_trained_on_with_it():
    words = shlex.split(to_train(Path("folder"), "--head-model", Path("flame.pkl")))
    assert words[-5:] == ["flame-data", "--data", "folder", "--head-model", "flame.pkl"]


def test_all_that_follows_training_names_the_run():
    assert all("runs/one" in line for line in after_training(Path("runs/one")))
