"""Ways to break a capture's folder, chosen by a seed. Each returns a function that undoes it."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from format_writers.flame_pickle import bombs, hostile_calls, hostile_opcodes

Undo = Callable[[], None]
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "text",
    "\0",
    "x" * 100_000,
    [],
    [[]],
    {},
    [None],
    [1e30] * 16,
    [[1, 0], [0, 1]],
    {"a": 1},
)
"""Replacements of a JSON value."""


def paths_out(secret: Path) -> tuple[str, ...]:
    """File names that lead out of the folder, and invalid names."""
    outside = f"../{secret.parent.name}/{secret.name}"
    return (
        str(secret),
        outside,
        f"images/../{outside}",
        "..\\" + outside.replace("/", "\\"),
        "/etc/hostname",
        "/dev/zero",
        "/proc/self/environ",
        "../" * 40 + "etc/hostname",
        "~/secret",
        "file:///etc/hostname",
        ".",
        "images",
        "a/" * 3000,
        "n" * 300,
        "loop.png",
        "out.png",
    )


def break_something(root: Path, secret: Path, marker: str, rng: np.random.Generator) -> Undo:
    """Break one thing in a capture's folder.

    Args:
        root: the capture.
        secret: a file outside of it that must not be opened.
        marker: a file that hostile code would make.
        rng: chooses.

    Returns:
        What undoes it.
    """
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    path = files[rng.integers(len(files))]
    if rng.random() < 0.5:  # parameters rather than the many images
        path = _of_kind(files, (".json", ".npz", ".frame", ".txt", ".obj"), rng) or path
    content = path.read_bytes()
    way = _WAYS[rng.integers(len(_WAYS))]
    if path.suffix == ".json" and rng.random() < 0.8:
        way = _break_json
    elif path.suffix in (".npz", ".frame") and rng.random() < 0.6:
        way = _break_npz if path.suffix == ".npz" else _break_frame
    elif path.suffix == ".pkl" and rng.random() < 0.3:
        way = _replace_pickle
    for link, target in (("loop.png", "loop.png"), ("out.png", str(secret))):
        if not os.path.lexists(root / link):
            os.symlink(target, root / link)
    way(path, content, secret, marker, rng)

    def undo() -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif os.path.lexists(path):
            path.unlink()
        path.write_bytes(content)

    return undo


def _of_kind(files: list[Path], suffixes: tuple[str, ...], rng: np.random.Generator) -> Path | None:
    some = [path for path in files if path.suffix in suffixes]
    return some[rng.integers(len(some))] if some else None


def _flip(path: Path, content: bytes, secret: Path, marker: str, rng: np.random.Generator) -> None:
    broken = bytearray(content)
    for _ in range(int(rng.integers(1, 30))):
        broken[rng.integers(len(broken))] = rng.integers(256)
    path.write_bytes(broken)


def _cut(path: Path, content: bytes, secret: Path, marker: str, rng: np.random.Generator) -> None:
    path.write_bytes(content[: rng.integers(len(content))])


def _fill(path: Path, content: bytes, secret: Path, marker: str, rng: np.random.Generator) -> None:
    path.write_bytes(bytes(rng.integers(0, 256, int(rng.integers(1, 5000)), dtype=np.uint8)))


def _insert(path: Path, content: bytes, secret: Path, marker: str, rng: np.random.Generator) -> None:
    at = int(rng.integers(len(content)))
    path.write_bytes(content[:at] + content[: int(rng.integers(1, 200))] + content[at:])


def _remove(path: Path, content: bytes, secret: Path, marker: str, rng: np.random.Generator) -> None:
    path.unlink()


def _as_folder(path: Path, content: bytes, secret: Path, marker: str, rng: np.random.Generator) -> None:
    path.unlink()
    path.mkdir()


def _as_link(path: Path, content: bytes, secret: Path, marker: str, rng: np.random.Generator) -> None:
    target = (path, secret, Path("/dev/zero"), path.parent, Path("nowhere"))[rng.integers(5)]
    path.unlink()
    os.symlink(target, path)


def _as_pipe(path: Path, content: bytes, secret: Path, marker: str, rng: np.random.Generator) -> None:
    path.unlink()
    os.mkfifo(path)


_WAYS = (_flip, _flip, _cut, _fill, _insert, _remove, _as_folder, _as_link, _as_pipe)


def _break_json(path: Path, content: bytes, secret: Path, marker: str, rng: np.random.Generator) -> None:
    if rng.random() < 0.1:
        opened = (b"[", b'{"a":', b'{"frames":[')[rng.integers(3)]
        path.write_bytes(opened * 100_000)
        return
    document = json.loads(content)
    holder, key = _somewhere(document, rng)
    choice = rng.random()
    if choice < 0.25 and isinstance(holder, dict):
        del holder[key]
    elif choice < 0.5:
        names = paths_out(secret)
        holder[key] = names[rng.integers(len(names))]
    else:
        holder[key] = VALUES[rng.integers(len(VALUES))]
    path.write_text(json.dumps(document))


def _somewhere(document: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """A random container in the document and one of its keys."""
    holder = document
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = keys[rng.integers(len(keys))]
        inner = holder[key]
        if isinstance(inner, (dict, list)) and inner and rng.random() < 0.85:
            holder = inner
        else:
            return holder, key


def _break_npz(path: Path, content: bytes, secret: Path, marker: str, rng: np.random.Generator) -> None:
    if rng.random() < 0.1:
        path.write_bytes(zip_bomb(int(rng.choice([150, 500])) << 20))
        return
    with np.load(io.BytesIO(content)) as archive:
        arrays = {key: archive[key] for key in archive.files}
    key = sorted(arrays)[rng.integers(len(arrays))]
    array = arrays[key]
    broken: list[Any] = [
        np.array([{}, Hostile(marker)], dtype=object),
        np.array(["text"]),
        np.zeros((0,)),
        np.array(3.0),
        np.full(array.shape, np.nan),
        np.full(array.shape, 1e300),
        array.reshape(-1),
        array[..., :-1] if array.ndim else array,
        np.zeros(array.shape, complex),
        np.zeros(array.shape, bool),
        np.zeros(2, [("a", "f4")]),
        np.zeros((1,) * 30),
    ]
    arrays[key] = broken[rng.integers(len(broken))]
    if rng.random() < 0.2:
        del arrays[key]
    np.savez(path, **arrays)


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return open, (self.marker, "w")


def _break_frame(path: Path, content: bytes, secret: Path, marker: str, rng: np.random.Generator) -> None:
    """Replace the pickle in a torch file, or flip some of its bytes and keep the checksum valid."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    if rng.random() < 0.5:
        members[name] = _hostile_pickle(marker, rng)
    else:
        flipped = bytearray(members[name])
        for _ in range(int(rng.integers(1, 6))):
            flipped[rng.integers(len(flipped))] = rng.integers(256)
        members[name] = bytes(flipped)
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)


def _replace_pickle(path: Path, content: bytes, secret: Path, marker: str, rng: np.random.Generator) -> None:
    path.write_bytes(_hostile_pickle(marker, rng))


def _hostile_pickle(marker: str, rng: np.random.Generator) -> bytes:
    calls = [pickle.dumps({"flame": [call]}, int(rng.integers(6))) for call in hostile_calls(marker).values()]
    foreign = [*calls, *hostile_opcodes(marker).values(), *bombs().values()]
    return foreign[rng.integers(len(foreign))]


@cache
def zip_bomb(size: int) -> bytes:
    """A small npz that decompresses to this many bytes, under a key that every reader reads."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("shape.npy", bytes(size))
    return stream.getvalue()
