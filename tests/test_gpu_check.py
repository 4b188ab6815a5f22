"""scripts/gpu_check.sh runs without nerfstudio and collects its figures in one file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu_check.sh"
BLOCK = 'import sys\nfor name in ("nerfstudio", "nerfacc", "viser"):\n    sys.modules[name] = None\n'
"""Importing these packages raises an error."""


def run(*arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    (path / "sitecustomize.py").write_text(BLOCK)
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, env=environment, check=False)


def test_one_file_has_all_figures(tmp_path):
    output = tmp_path / "out"
    result = run("--tiny", str(output), path=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    content = json.loads((output / "bench.json").read_text())
    assert [(row["subject"], row["seconds"]) for row in content["runs"]] == [
        (name, seconds) for name in ("one", "two") for seconds in (0.5, 1.0)
    ]
    assert all(row["steps"] > 0 and row["peak_gib"] > 0 for row in content["runs"])
    assert [(row["subject"], [s["size"] for s in row["speeds"]]) for row in content["driven"]] == [
        ("one", [32]),
        ("two", [32]),
    ]
    assert all(speed["exact"] > 0 and speed["fast"] > 0 for row in content["driven"] for speed in row["speeds"])
    assert "skipped" in (output / "gpu_tests.txt").read_text() or "passed" in (output / "gpu_tests.txt").read_text()
    assert len((output / "commit.txt").read_text().strip()) in (7, 40)


def test_another_number_of_captures_is_refused(tmp_path):
    result = run(str(tmp_path / "out"), "one", path=tmp_path)
    assert result.returncode == 2 and "two captures are needed, 1 are given" in result.stderr
