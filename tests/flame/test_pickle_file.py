"""FLAME pickles: all published kinds are read, and no code in them runs."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from format_writers.flame_pickle import (
    as_python2_wrote_it,
    bombs,
    flame_content,
    hostile_calls,
    hostile_opcodes,
    write_pickle,
)
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.head_model import load_head_model
from partnerface_ns.flame.pickle_file import read_flame_pickle

MARKER = "made-by-a-pickle"


@pytest.fixture
def flame_arrays(head_arrays):
    """The tiny head with FLAME's number of directions."""
    rng = np.random.default_rng(0)
    num = len(head_arrays["v_template"])
    return head_arrays | {"shapedirs": 0.001 * rng.standard_normal((num, 3, 400))}


@pytest.fixture
def expected(flame_arrays, tmp_path):
    arrays = {key: value for key, value in flame_arrays.items() if key not in ("n_id", "expr_names", "name")}
    np.savez(tmp_path / "plain.npz", **arrays)
    return load_head_model(tmp_path / "plain.npz")


def write(tmp_path: Path, content: bytes, name: str = "generic_model.pkl") -> Path:
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("chumpy", [True, False], ids=["chumpy", "numpy"])
@pytest.mark.parametrize("old_names", [True, False], ids=["old names", "new names"])
def test_every_protocol_gives_the_same_model(flame_arrays, expected, tmp_path, protocol, chumpy, old_names):
    content = write_pickle(flame_content(flame_arrays, chumpy), protocol, old_names)
    model = load_head_model(write(tmp_path, content))
    assert model.fingerprint == expected.fingerprint
    np.testing.assert_array_equal(model.joint_regressor, expected.joint_regressor)
    np.testing.assert_array_equal(model.pose_dirs, expected.pose_dirs)
    np.testing.assert_array_equal(model.faces, expected.faces)
    assert (model.num_identity, model.num_expr) == (300, 100)


def test_python_2s_strings_are_read(flame_arrays, expected, tmp_path):
    model = load_head_model(write(tmp_path, as_python2_wrote_it(flame_content(flame_arrays, chumpy=False))))
    assert model.fingerprint == expected.fingerprint


@pytest.mark.parametrize(
    ("file_name", "opened", "version"),
    [
        ("generic_model.pkl", False, "FLAME 2020"),
        ("flame2023.pkl", False, "FLAME 2023"),
        ("flame2023_no_jaw.pkl", False, "FLAME 2023"),
        ("flame2023_Open.pkl", False, "FLAME 2023 Open"),
        ("renamed.pkl", True, "FLAME 2023 Open"),
        ("renamed.pkl", False, "renamed"),
    ],
)
def test_the_version_is_recognised_by_content_then_by_name(flame_arrays, tmp_path, file_name, opened, version):
    content = pickle.dumps(flame_content(flame_arrays, chumpy=False, opened=opened))
    assert load_head_model(write(tmp_path, content, file_name)).name == version


def test_byte_orders_and_types_are_kept(tmp_path):
    arrays = {"v_template": np.arange(6, dtype=">f4").reshape(2, 3), "f": np.array([[0, 1, 1]], dtype=np.uint16)}
    read = read_flame_pickle(write(tmp_path, pickle.dumps(arrays, 2)))
    np.testing.assert_array_equal(read["v_template"], arrays["v_template"])
    np.testing.assert_array_equal(read["f"], arrays["f"])


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("call", hostile_calls(MARKER))
def test_calls_are_refused_before_any_object_exists(flame_arrays, tmp_path, monkeypatch, call, protocol):
    monkeypatch.chdir(tmp_path)
    hostile = hostile_calls(MARKER)[call]
    content = flame_content(flame_arrays, chumpy=False)
    nests = [hostile, [hostile], {"a": (hostile, {"b": [hostile]})}, content | {"bs_style": hostile}]
    for number, nest in enumerate(nests):
        path = write(tmp_path, pickle.dumps(nest, protocol), f"{number}.pkl")
        with pytest.raises(InputError, match=r"refused: (.|\n)*it names") as error:
            load_head_model(path)
        assert len(str(error.value).splitlines()) == 2
    assert not (tmp_path / MARKER).exists()


@pytest.mark.parametrize("name", hostile_opcodes(MARKER))
def test_other_ways_to_run_code_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="refused"):
        load_head_model(write(tmp_path, hostile_opcodes(MARKER)[name]))
    assert not (tmp_path / MARKER).exists()


@pytest.mark.parametrize("name", bombs())
def test_malicious_sizes_take_neither_memory_nor_time(tmp_path, name):
    path = write(tmp_path, bombs()[name])
    tracemalloc.start()
    with pytest.raises(InputError):
        load_head_model(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20


def test_a_pickle_cannot_change_the_reader(flame_arrays, expected, tmp_path):
    for content in (*hostile_opcodes(MARKER).values(), *bombs().values()):
        with pytest.raises(InputError):
            load_head_model(write(tmp_path, content))
    good = pickle.dumps(flame_content(flame_arrays, chumpy=False))
    assert load_head_model(write(tmp_path, good)).fingerprint == expected.fingerprint


@pytest.mark.parametrize(
    "array",
    [np.array([{}, {}]), np.array(["a"]), np.zeros(3, [("a", "f4")]), 3.0, "text", None, [1, 2], np.float64(1)],
    ids=["objects", "text array", "structure", "number", "text", "nothing", "list", "scalar"],
)
def test_entries_that_are_not_numeric_arrays_are_named(flame_arrays, tmp_path, array):
    content = flame_content(flame_arrays, chumpy=False) | {"weights": array}
    with pytest.raises(InputError, match=r"refused|weights"):
        load_head_model(write(tmp_path, pickle.dumps(content)))


def test_inconsistent_sparse_matrices_are_refused(flame_arrays, tmp_path):
    def refused(**changes) -> None:
        content = flame_content(flame_arrays, chumpy=False)
        matrix = content["J_regressor"]
        matrix.__dict__.update({key: value for key, value in changes.items()})
        with pytest.raises(InputError, match=r"J_regressor(.|\n)*sparse matrix"):
            load_head_model(write(tmp_path, pickle.dumps(content)))

    good = flame_content(flame_arrays, chumpy=False)["J_regressor"]
    refused(indices=good.indices + 100)
    refused(indices=-1 - good.indices)
    refused(indptr=good.indptr[::-1].copy())
    refused(indptr=good.indptr[:-1])
    refused(data=good.data[:-1])
    refused(_shape=(10**9, 10**9))


def test_a_missing_array_is_named(flame_arrays, tmp_path):
    content = flame_content(flame_arrays, chumpy=False)
    del content["posedirs"]
    with pytest.raises(InputError, match="posedirs"):
        load_head_model(write(tmp_path, pickle.dumps(content)))
    with pytest.raises(InputError, match="dictionary"):
        load_head_model(write(tmp_path, pickle.dumps([1])))
    with pytest.raises(InputError, match="does not exist"):
        load_head_model(tmp_path / "nowhere.pkl")


@pytest.mark.parametrize("seed", range(40))
def test_broken_pickles_raise_input_error(flame_arrays, tmp_path, seed):
    rng = np.random.default_rng(seed)
    content = bytearray(pickle.dumps({"v_template": np.zeros((2, 3)), "f": [1, {"a": "b"}]}, seed % 6))
    for at in rng.integers(0, len(content), 1 + seed % 4):
        content[at] = rng.integers(256)
    if seed % 3 == 0:
        content = content[: rng.integers(len(content))]
    with pytest.raises(InputError):
        load_head_model(write(tmp_path, bytes(content)))
