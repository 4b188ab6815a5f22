"""The demo: the whole way at once, going on after a stop, and what it refuses."""

from __future__ import annotations

import json
import math
import shlex
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from nerfstudio.engine.trainer import writer
from PIL import Image

from partnerface_ns.cli.demo import METRICS, Demo
from partnerface_ns.cli.main import main
from partnerface_ns.common.locks import lock_folder

OPTIONS = ["--frames", "10", "--size", "32", "--minutes", "0.01", "--seed", "3", "--device", "cpu"]


@pytest.fixture(autouse=True)
def fresh_writers():
    writer.EVENT_WRITERS.clear()
    writer.EVENT_STORAGE.clear()
    writer.GLOBAL_BUFFER.clear()


def exit_code(*arguments: object) -> object:
    with pytest.raises(SystemExit) as exit_:
        main(["demo", *(str(a) for a in arguments)])
    return exit_.value.code


def test_a_stopped_demo_goes_on_and_writes_everything(tmp_path, monkeypatch, capsys):
    output = tmp_path / "my demo"

    def stopped(self: Demo, config: object) -> None:
        raise SystemExit(130)  # as the trainer ends after Ctrl-C

    with monkeypatch.context() as patch:
        patch.setattr(Demo, "_train", stopped)
        assert exit_code("--output", output, *OPTIONS) == 130
    assert f"Finished parts are in {output}" in capsys.readouterr().out
    assert sorted(p.name for p in output.glob("[!.]*")) == ["demo.json", "subject"]
    filmed = (output / "subject" / "transforms_train.json").stat().st_mtime_ns
    state = json.loads((output / "demo.json").read_text())
    assert state["seconds"] > 0
    (output / "demo.json").write_text(json.dumps(state | {"seconds": 5000.0}))

    main(["demo", "--output", str(output), *OPTIONS])
    told = capsys.readouterr().out
    assert (output / "subject" / "transforms_train.json").stat().st_mtime_ns == filmed, "the person was kept"
    summary = json.loads((output / "summary.json").read_text())
    figures = set(METRICS)
    assert summary["num_test_images"] == 3
    assert summary.keys() == figures | {
        "num_test_images",
        "train_seconds",
        "total_seconds",
        "device",
        "num_parts",
        "seed",
    }
    assert all(math.isfinite(summary[name]) for name in figures)
    assert (summary["device"], summary["num_parts"], summary["seed"]) == ("cpu", 8, 3)
    assert 0.6 <= summary["train_seconds"] < 60
    assert 5000 + summary["train_seconds"] < summary["total_seconds"] < 6000, "the stopped demo's seconds count"

    image = np.array(Image.open(output / "side_by_side.png"))
    assert image.shape == (20 + 3 * (32 + 24) - 4, 3 * 36 - 4, 3), "three test images: truth, ours, error"
    assert np.array(Image.open(output / "parts.png")).std() > 5
    clip = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", output / "unseen.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    decoded = subprocess.run(clip, capture_output=True, check=True).stdout
    assert len(decoded) == 3 * 32 * 64 * 3, "three images, truth beside ours"

    run = output / "runs" / "partnerface-lite" / "demo"
    for line in told.splitlines():
        if line.startswith("  ") and "--load-config" in line:
            assert str(run / "config.yml") in shlex.split(line)
    assert "psnr_head" in told and str(run) in told

    (output / "unseen.mp4").unlink()
    main(["demo", "--output", str(output), *OPTIONS])
    assert "psnr_head" in capsys.readouterr().out
    assert not (output / "unseen.mp4").exists(), "a demo that is done only shows its figures again"

    assert exit_code("--output", output, *OPTIONS[:-4], "--seed", "4") == 1
    assert "demo with other options" in capsys.readouterr().err


def test_a_killed_demo_goes_on_too(tmp_path, monkeypatch, capsys):
    output, write_state, claimed = tmp_path / "demo", Demo._write_state, []

    def die(self: Demo, *_: object) -> None:
        claimed.append((output / "demo.json").is_file())
        (output / "subject").mkdir(exist_ok=True)
        monkeypatch.setattr(Demo, "_write_state", lambda *_: None)  # a killed process writes nothing more
        raise KeyboardInterrupt

    monkeypatch.setattr(Demo, "_run", die)
    assert exit_code("--output", output, *OPTIONS) == 130
    monkeypatch.setattr(Demo, "_write_state", write_state)
    assert exit_code("--output", output, *OPTIONS) == 130
    assert claimed == [True, True] and "is in use" not in capsys.readouterr().err


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for place in ("letters", "file"):
        assert exit_code("--output", tmp_path / place) == 1
        assert "is in use" in capsys.readouterr().err
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == ["file", "letters", "letters/dear.txt"]


def test_options_out_of_range_are_refused_and_can_be_fixed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    output = tmp_path / "demo"
    for option, value in (("--minutes", "0"), ("--device", "cuda"), ("--frames", "3"), ("--size", "8")):
        assert exit_code("--output", output, *OPTIONS, option, value) == 1
        assert capsys.readouterr().err.startswith(f"Error: {option}: ")
    assert [p.name for p in output.glob("[!.]*")] == ["demo.json"]
    monkeypatch.setattr(Demo, "_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert exit_code("--output", output, *OPTIONS) == 130, "nothing binds the folder to the refused options"


def test_a_broken_state_file_is_named(tmp_path, capsys):
    (tmp_path / "demo.json").write_text("{")
    assert exit_code("--output", tmp_path) == 1
    assert "demo.json" in capsys.readouterr().err


def test_a_second_demo_in_the_folder_is_refused(tmp_path, capsys):
    with lock_folder(tmp_path):
        assert exit_code("--output", tmp_path, *OPTIONS) == 1
    assert "another command is writing here" in capsys.readouterr().err
    assert list(tmp_path.glob("[!.]*")) == []
