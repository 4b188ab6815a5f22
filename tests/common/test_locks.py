"""Locks of folders: other processes are refused, ended ones do not block."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from partnerface_ns.common.errors import InputError
from partnerface_ns.common.locks import lock_folder

HOLD = "import sys; from pathlib import Path; from partnerface_ns.common.locks import lock_folder\n"
HOLD += "with lock_folder(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"


def test_another_process_is_refused_until_the_first_ends(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        with (
            pytest.raises(InputError, match="output: another command is writing here"),
            lock_folder(tmp_path, Path("output")),
        ):
            pass
        other.kill()
        other.wait()
        with lock_folder(tmp_path):
            pass


def test_the_folder_is_free_again_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), lock_folder(tmp_path):
        raise RuntimeError("broken")
    with lock_folder(tmp_path):
        pass
