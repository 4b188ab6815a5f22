"""The scripts in docs/examples run unchanged, on a tiny person."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from partnerface_ns.capture.load import load_capture
from partnerface_ns.demo.subject import make_subject
from partnerface_ns.flame.open_head import load_open_head

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES.parents[1])}


def run(name: str, *arguments: object) -> str:
    """Run an example and return its output."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def subject(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("examples") / "subject"
    make_subject(folder, frames=10, size=32)
    return folder


@pytest.fixture(scope="module")
def avatar(subject) -> Path:
    output = subject.parent / "avatar.pt"
    assert "steps, avatar in" in run("train_without_nerfstudio.py", subject, output, 0.05)
    return output


def test_every_example_is_short_and_has_a_test():
    names = {path.name for path in EXAMPLES.glob("*.py")}
    tested = Path(__file__).read_text(encoding="utf8")
    assert len(names) == 6 and all(f'"{name}"' in tested for name in names)
    for path in EXAMPLES.glob("*.py"):
        assert 10 <= len([line for line in path.read_text(encoding="utf8").splitlines() if line.strip()]) <= 45


def test_one_expression_is_rendered(avatar, tmp_path):
    run("render_expression.py", avatar, tmp_path / "smile.png")
    image = np.asarray(Image.open(tmp_path / "smile.png"))
    assert max(image.shape[:2]) == 128 and image.std() > 5


def test_a_capture_drives_the_avatar(avatar, subject, tmp_path):
    assert "10 frames" in run("drive_from_capture.py", avatar, subject, tmp_path / "driven.mp4")
    assert (tmp_path / "driven.mp4").stat().st_size > 1000


def test_a_page_is_served(avatar):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(EXAMPLES / "viser_page.py"), str(avatar), str(port)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        for _ in range(240):
            assert process.poll() is None, process.stderr.read()
            try:
                assert urlopen(f"http://127.0.0.1:{port}", timeout=5).status == 200
                return
            except OSError:
                time.sleep(0.5)
        pytest.fail("the page is not served")
    finally:
        process.kill()
        process.communicate()


def test_a_new_layout_is_read(tmp_path):
    folder, out = tmp_path / "layout", tmp_path / "out"
    folder.mkdir()
    states = np.zeros((12, 9), np.float32)
    states[:, 3] = np.linspace(0, 0.2, 12)
    np.savetxt(folder / "pose.csv", states, delimiter=",")
    np.savetxt(folder / "expression.csv", np.zeros((12, load_open_head().num_expr)), delimiter=",")
    for i in range(12):
        Image.fromarray(np.full((64, 64, 4), 255 - i, np.uint8)).save(folder / f"{i + 1:04d}.png")
    run("read_new_layout.py", folder, out)
    assert load_capture(out).num_timesteps == 12


def test_two_processes_train_two_captures_between_them(subject, tmp_path):
    """Both are told of both captures. Each is trained once, and the same command again has nothing left to do."""
    captures = [shutil.copytree(subject, tmp_path / name) for name in ("ann", "ben")]
    options = [
        "--max-num-iterations",
        "3",
        "--machine.device-type",
        "cpu",
        "--pipeline.model.avatar.space.resolution",
        "16",
    ]
    command = [sys.executable, str(EXAMPLES / "train_many.py"), str(tmp_path / "runs")]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def start(*order: Path) -> subprocess.Popen:
        words = [*command, *map(str, order), f"--options={' '.join(options)}"]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**ENVIRONMENT, "PATH": path})

    together = [start(*captures), start(*captures[::-1])]
    said = [process.communicate(timeout=600)[0] for process in together]
    assert [process.returncode for process in together] == [0, 0], said
    assert sorted(line for text in said for line in text.splitlines() if "trained" in line) == [
        "ann: trained",
        "ben: trained",
    ]
    for name in ("ann", "ben"):
        run_folder = tmp_path / "runs" / name / "partnerface-lite" / "run"
        assert [path.name for path in (run_folder / "nerfstudio_models").iterdir()] == ["step-000000002.ckpt"]
    assert start(captures[0]).communicate(timeout=600)[0] == "ann: skipped\n"
