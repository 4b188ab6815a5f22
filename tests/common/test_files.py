"""Reading untrusted paths, JSON and arrays."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile

import numpy as np
import pytest

from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import list_files, natural_key, path_inside, require_file
from partnerface_ns.common.json_file import read_json, write_json
from partnerface_ns.common.npz_file import npz_shapes, read_npz, require_bounded, write_npz


@pytest.fixture
def folder(tmp_path):
    root = (tmp_path / "subject").resolve()
    (root / "a").mkdir(parents=True)
    (root / "a" / "b.png").write_text("x")
    (tmp_path / "secret").write_text("x")
    return root


@pytest.mark.parametrize("name", ["a/b.png", "./a/b.png", "a/../a/b.png", "a\\b.png"])
def test_paths_inside_lead_to_their_file(folder, name):
    assert path_inside(folder, folder, name, folder) == folder / "a" / "b.png"


def test_paths_are_relative_to_their_base(folder):
    assert path_inside(folder, folder / "a", "b.png", folder) == folder / "a" / "b.png"
    assert path_inside(folder, folder / "a", "../a/b.png", folder) == folder / "a" / "b.png"


@pytest.mark.parametrize(
    "name",
    ["../secret", "a/../../secret", "/etc/hostname", "..\\secret", "", "a\0b", None, 3, ["a"], "x" * 5000, "a/out"],
    ids=str,
)
def test_other_paths_are_refused_by_key(folder, name):
    os.symlink(folder.parent / "secret", folder / "a" / "out")
    with pytest.raises(InputError, match=r"t\.json \[k\]: (not a path|the path leads)"):
        path_inside(folder, folder, name, folder / "t.json", "k")


def test_circular_links_are_refused_and_links_inside_followed(folder):
    os.symlink("loop", folder / "loop")
    os.symlink(folder / "a" / "b.png", folder / "in")
    assert path_inside(folder, folder, "in", folder) == folder / "a" / "b.png"
    with pytest.raises(InputError):
        require_file(path_inside(folder, folder, "loop", folder))


def test_only_regular_files_are_files(folder):
    assert require_file(folder / "a" / "b.png") == 1
    os.mkfifo(folder / "pipe")
    (folder / "empty").touch()
    for name, match in (
        ("a", "does not exist"),
        ("pipe", "does not exist"),
        ("no", "not exist"),
        ("empty", "is empty"),
    ):
        with pytest.raises(InputError, match=match):
            require_file(folder / name)
    with pytest.raises(InputError, match="too large"):
        require_file(folder / "a" / "b.png", max_bytes=0)


@pytest.mark.parametrize(
    "content", [b"{", b"[" * 100_000, b"NaN", b"-Infinity", b"\xff\xfe", b"9" * 5000, b'{"a": Infinity}']
)
def test_invalid_json_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def npy(header: bytes, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + data


def archive(tmp_path, content: bytes, packing: int = zipfile.ZIP_DEFLATED):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", packing) as file:
        file.writestr("x.npy", content)
    return path


def test_arrays_of_any_order_round_trip(tmp_path):
    arrays = {
        "c": np.arange(6.0).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
        "scalar": np.array(3),
        "text": np.array(["a", "bc"]),
        "empty": np.zeros((0, 3)),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        read = read_npz(tmp_path / "a.npz")
        assert read.keys() == arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(read[key], array)
        assert npz_shapes(tmp_path / "a.npz") == {key: array.shape for key, array in arrays.items()}
    assert read_npz(tmp_path / "a.npz", ("c", "nothing")).keys() == {"c"}


def test_arrays_of_version_2_are_read(tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.arange(3), version=(2, 0))
    np.testing.assert_array_equal(read_npz(archive(tmp_path, stream.getvalue()))["x"], [0, 1, 2])


BAD = {
    "no npy": b"x" * 100,
    "objects": npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", b"\x80\x04N."),
    "structure": npy(b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}\n", bytes(4)),
    "subarray": npy(b"{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (1,)}\n", bytes(8)),
    "too few bytes": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}\n", bytes(4)),
    "too many bytes": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}\n", bytes(8)),
    "negative shape": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1)}\n", bytes(4)),
    "huge and empty": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775807, 9)}\n"),
    "complex": npy(b"{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}\n", bytes(8)),
    "code": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': __import__('os')}\n", bytes(4)),
    "version 3": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}\n", bytes(4), b"\x03\x00"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays_are_named(tmp_path, name):
    with pytest.raises(InputError, match=r"a\.npz \[x\]: the array cannot be read"):
        read_npz(archive(tmp_path, BAD[name]))


def test_a_decompression_bomb_is_refused(tmp_path):
    path = archive(tmp_path, bytes(80 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(InputError, match="decompressed array is too large"):
        read_npz(path)
    np.savez_compressed(path, a=np.zeros(1000), b=np.zeros(1000))
    assert len(read_npz(path, max_bytes=17_000)) == 2
    with pytest.raises(InputError, match="decompressed array is too large"):
        read_npz(path, max_bytes=12_000)


def test_unknown_compression_is_refused(tmp_path):
    path = archive(tmp_path, npy(b"{}"), zipfile.ZIP_BZIP2)
    for read in (read_npz, npz_shapes):
        with pytest.raises(InputError, match="compressed in an unknown way"):
            read(path)


def test_messages_stay_short():
    deep: list = []
    for _ in range(10_000):
        deep = [deep]
    for value in (deep, "x" * 10_000, 10**100_000, {"a": deep}, "a\n b"):
        assert len(shorten(value)) <= 120 and "\n" not in shorten(value)
    assert shorten(1.5) == "1.5"
    assert shorten("a\x1b[2J\ud800ü") == "a?[2J?ü"


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1e7])
def test_numbers_out_of_bounds_are_named_with_their_index(wrong, tmp_path):
    values = np.zeros((2, 3), dtype=np.float32)
    require_bounded(values, 1e6, tmp_path, "key")
    require_bounded(values[:0], 1e6, tmp_path, "key")
    values[1, 2] = wrong
    with pytest.raises(
        InputError, match=rf"(?s)\[key\].*from -1e\+06 to 1e\+06.*1 others, first {wrong}.* at \[1, 2\]"
    ):
        require_bounded(values, 1e6, tmp_path, "key")


def test_numbers_in_names_are_ordered_by_value():
    names = ["b.png", "10.png", "2.png", "a2_b10.png", "a2_b9.png", "A1_b3.png", "1.png"]
    ordered = ["1.png", "2.png", "10.png", "A1_b3.png", "a2_b9.png", "a2_b10.png", "b.png"]
    assert sorted(names, key=natural_key) == ordered


def test_names_that_differ_only_in_case_or_padding_have_equal_keys():
    assert natural_key("IMG_7")[0] == natural_key("img_0007")[0] != natural_key("img_70")[0]
    assert natural_key("IMG_7") != natural_key("img_0007"), "the order stays the same from run to run"


def test_files_are_listed_in_order_without_hidden_ones(tmp_path):
    for name in ("1.PNG", "2.jpg", "10.png", "._1.PNG", ".DS_Store", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "3.png").mkdir()
    assert [path.name for path in list_files(tmp_path, (".png", ".jpg"))] == ["1.PNG", "2.jpg", "10.png"]


def test_json_is_written_atomically_with_null_for_nan(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": float("nan"), "b": [1.5, np.float64("inf")], "c": (None, "nan")})
    assert json.loads(path.read_text()) == {"a": None, "b": [1.5, None], "c": [None, "nan"]}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"] and "1.5" in path.read_text()


def test_arrays_are_written_atomically(tmp_path, monkeypatch):
    write_npz(tmp_path / "a.npz", {"x": np.arange(3)})
    np.testing.assert_array_equal(read_npz(tmp_path / "a.npz")["x"], np.arange(3))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_npz(tmp_path / "a.npz", {"x": np.arange(9)})
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"] and len(read_npz(tmp_path / "a.npz")["x"]) == 3
