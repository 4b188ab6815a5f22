"""The scripts in docs/examples run unchanged, on a tiny person."""

from __future__ import annotations

import os
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
    assert len(names) == 5 and all(f'"{name}"' in tested for name in names)
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
