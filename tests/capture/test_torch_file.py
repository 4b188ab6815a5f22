"""Torch files: plain arrays are read, everything else is refused and no code runs."""

from __future__ import annotations

import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from format_writers.flame_pickle import bombs, hostile_calls, hostile_opcodes
from partnerface_ns.capture.torch_file import read_torch_file
from partnerface_ns.common.errors import InputError

MARKER = "made-by-a-pickle"


def write(tmp_path: Path, data: bytes, packing: int = zipfile.ZIP_STORED) -> Path:
    """A torch file around a pickle."""
    path = tmp_path / "00000.frame"
    torch.save({}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(name, data if name.endswith("data.pkl") else content)
    return path


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_arrays_and_containers_round_trip(tmp_path, core):
    content = {
        "flame": {"exp": np.arange(6, dtype=np.float32).reshape(1, 6)},
        "big endian": np.arange(3, dtype=">f8"),
        "scalar": np.float64(2.5),
        "plain": [1, "two", None, (3.5, True)],
    }
    data = pickle.dumps(content, 2).replace(b"numpy.core", core)
    read = read_torch_file(write(tmp_path, data))
    np.testing.assert_array_equal(read["flame"]["exp"], content["flame"]["exp"])
    np.testing.assert_array_equal(read["big endian"], content["big endian"])
    assert read["scalar"] == 2.5 and read["plain"] == content["plain"]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("call", hostile_calls(MARKER))
def test_calls_are_refused(tmp_path, monkeypatch, call, protocol):
    monkeypatch.chdir(tmp_path)
    hostile = hostile_calls(MARKER)[call]
    for nest in (hostile, {"flame": {"exp": [hostile]}}):
        with pytest.raises(InputError, match=r"refused(.|\n)*it names"):
            read_torch_file(write(tmp_path, pickle.dumps(nest, protocol)))
    assert not (tmp_path / MARKER).exists()


BAD = (
    hostile_opcodes(MARKER)
    | bombs()
    | {
        "a byte array by name": b"\x80\x02c__builtin__\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.",
        "an array of a size that is not there": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85c_codecs\nencode\nX\x01\x00\x00\x00bX\x06\x00\x00\x00latin1\x86R\x87R.",
        "objects": pickle.dumps({"a": np.array([{}, None])}, 2),
        "a structure": pickle.dumps({"a": np.zeros(2, [("x", "f4")])}, 2),
        "no dictionary": pickle.dumps([1], 2),
    }
)


@pytest.mark.parametrize("name", BAD)
def test_bad_files_take_neither_memory_nor_time(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, BAD[name])
    tracemalloc.start()
    with pytest.raises(InputError, match=r"00000\.frame"):
        read_torch_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20
    assert not (tmp_path / MARKER).exists()


def test_compressed_truncated_and_foreign_files_are_refused(tmp_path):
    good = write(tmp_path, pickle.dumps({"a": np.zeros(100_000)}, 2)).read_bytes()
    for content in (good[: len(good) // 2], b"", b"PK\x03\x04", pickle.dumps({"a": 1}), good[:-30]):
        (tmp_path / "00000.frame").write_bytes(content)
        with pytest.raises(InputError):
            read_torch_file(tmp_path / "00000.frame")
    with pytest.raises(InputError, match="compressed"):
        read_torch_file(write(tmp_path, pickle.dumps({"a": np.zeros(100_000)}, 2), zipfile.ZIP_DEFLATED))


def test_the_old_format_is_refused(tmp_path):
    torch.save({"a": 1}, tmp_path / "a.frame", _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match="refused"):
        read_torch_file(tmp_path / "a.frame")


def test_reading_keeps_names_that_others_allowed(tmp_path):
    torch.save({"a": {"b": np.zeros(3)}}, tmp_path / "a.frame")
    allowed = type(np.dtype(np.uint8))  # one of those that reading needs
    with torch.serialization.safe_globals([allowed]):
        read_torch_file(tmp_path / "a.frame")
        assert allowed in torch.serialization.get_safe_globals()
