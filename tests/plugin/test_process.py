"""What the plugin changes in a process."""

from __future__ import annotations

import os
import shutil
import sys
import warnings

import numpy as np
import torch

import partnerface_ns.plugin  # noqa: F401
from partnerface_ns.common.errors import InputError
from partnerface_ns.plugin import process


def test_checkpoints_may_hold_numpys_scalars(tmp_path):
    torch.save({"lr": np.float64(0.5), "loss": np.float32(2)}, tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True) == {"lr": 0.5, "loss": 2}


def test_a_users_mistake_is_printed_alone_and_all_else_as_ever(monkeypatch, capsys):
    passed_on = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: passed_on.append(error[0]))
    process.print_input_errors_alone()
    process.print_input_errors_alone()
    error = InputError("folder", "is missing")
    sys.excepthook(InputError, error, None)
    assert capsys.readouterr().err.strip() == f"Error: {error}"
    sys.excepthook(KeyError, KeyError("x"), None)
    assert passed_on == [KeyError]


def test_the_frameworks_own_warnings_are_hidden_and_others_shown():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        process.ignore_framework_warnings()
        for module in ("nerfstudio.cameras.cameras", "partnerface_ns.avatar.avatar"):
            place = {"filename": "x.py", "lineno": 1, "module": module}
            warnings.warn_explicit("Using a non-tuple sequence for multidimensional indexing", UserWarning, **place)
            warnings.warn_explicit("something else", UserWarning, **place)
            warnings.warn_explicit("will change", FutureWarning, **place)
    assert [str(w.message)[:14] for w in shown] == ["something else", "Using a non-tu", "something else", "will change"]


def test_ffmpeg_is_provided_where_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    process.provide_ffmpeg()
    assert shutil.which("ffmpeg") is not None
    before = os.environ["PATH"]
    process.provide_ffmpeg()
    assert os.environ["PATH"] == before, "it is there now"
