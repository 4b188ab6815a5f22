"""Broken and hostile files: one kind of error, nothing run, nothing opened outside, no hang, little memory.

PARTNERFACE_HOSTILE_CASES sets how many cases each reader gets: 2000 for a thorough run, which takes some minutes.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import partnerface_ns
from format_writers.flame_pickle import flame_content
from format_writers.hostile import break_something
from format_writers.layouts import LAYOUTS
from format_writers.truth import flame_like_arrays, make_truth
from format_writers.vhap import write_vhap_tracks
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.load import load_capture
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.head_model import load_head_model

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")

NUM_CASES = int(os.environ.get("PARTNERFACE_HOSTILE_CASES", "100"))
SECONDS, MEMORY_MB = 20, 400
"""Limits of one case."""
IMPORTED = (Path(partnerface_ns.__file__).parent, sys.prefix, sys.base_prefix)
"""Folders of modules, which may be imported at any time."""
_RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "ctypes.dlopen", "socket.connect")
_events: list[tuple[str, str]] | None = None


def _note(event: str, arguments: tuple) -> None:
    if _events is None:
        return
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        _events.append(("open", os.path.realpath(os.fsdecode(arguments[0]))))
    elif event in _RUNS:
        _events.append((event, str(arguments[0])))


sys.addaudithook(_note)


class TookTooLong(BaseException):
    """Not an Exception, so that no reader can take it for a broken file."""


def _stop(*_: object) -> None:
    raise TookTooLong


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    """Records opened files and run code, and bounds time (waiting included) and memory."""
    global _events
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    memory = peak_mb()
    before = signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    _events = []
    try:
        yield _events
    finally:
        _events = None
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert peak_mb() - memory < MEMORY_MB


def peak_mb() -> float:
    """Peak memory of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def read_capture(root: Path, head_path: Path) -> None:
    capture = load_capture(root, head_model=head_path)
    for frame in capture.frames:
        if frame.image_path is not None:
            load_image(frame, (1.0, 1.0, 1.0))


def assert_one_kind_of_error(root: Path, read: Callable[[], object], cases: int, allowed: tuple[Path, ...] = ()) -> int:
    """Break the folder in this many ways and read each.

    Args:
        root: holds what is read.
        read: reads it.
        cases: ways to break it, chosen by their number.
        allowed: files and folders beside the folder that may be opened.

    Returns:
        How many of the cases were refused.
    """
    root = root.resolve()
    secret, marker = root.parent / "outside" / "secret.png", root.parent / "made-by-a-file"
    secret.parent.mkdir()
    secret.write_bytes(next(path for path in root.rglob("*") if path.is_file()).read_bytes())
    read()
    refused = 0
    for case in range(cases):
        undo = break_something(root, secret, str(marker), np.random.default_rng([case, len(root.name)]))
        with watched() as events:
            try:
                read()
            except InputError as error:
                refused += 1
                message = str(error)
                assert root.name in message and len(message) < 2000, (case, "it names the file, for people to read")
        undo()
        opened = [Path(path) for event, path in events if event == "open"]
        outside = [path for path in opened if not any(path.is_relative_to(one) for one in (root, *allowed, *IMPORTED))]
        assert not outside and len(opened) == len(events) and not marker.exists(), (case, outside, events[-3:])
    read()
    return refused


@pytest.fixture(scope="module")
def head_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("head") / "flame.npz"
    np.savez(path, **flame_like_arrays())
    return path.resolve()


@pytest.mark.parametrize("layout", [*LAYOUTS, "vhap-tracker"])
def test_any_broken_file_raises_input_error(layout, tmp_path, head_path):
    write = write_vhap_tracks if layout == "vhap-tracker" else LAYOUTS[layout]
    root = write(tmp_path / layout, make_truth(6))
    # Meshes are fitted anew each time: a tenth of the cases takes as long.
    cases = NUM_CASES // 10 if layout == "insta-meshes" and NUM_CASES <= 100 else NUM_CASES
    refused = assert_one_kind_of_error(root, lambda: read_capture(root, head_path), cases, (head_path,))
    assert refused > cases / 4, "the cases are mean enough"


@pytest.mark.parametrize("name", ["generic_model.pkl", "flame.npz"])
def test_any_broken_head_model_raises_input_error(name, tmp_path, head_arrays):
    path = tmp_path / "head" / name
    path.parent.mkdir()
    directions = 0.001 * np.random.default_rng(0).standard_normal((len(head_arrays["v_template"]), 3, 400))
    arrays = {key: value for key, value in head_arrays.items() if key not in ("n_id", "expr_names")}
    arrays["shapedirs"] = directions.astype(np.float32)
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        path.write_bytes(pickle.dumps(flame_content(arrays, chumpy=False), 2))
    linked = (tmp_path / "outside").resolve()  # whoever names a file may name a link
    refused = assert_one_kind_of_error(path.parent, lambda: load_head_model(path), NUM_CASES, (linked,))
    assert refused > NUM_CASES / 4, "the cases are mean enough"
