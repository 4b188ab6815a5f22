"""Reading FLAME's own pickle files as plain arrays.

Files of Python 2 and 3 are read, with or without chumpy, from any version of scipy. No code in the file runs (see
`inert_pickle.py`). Arrays are rebuilt here from their bytes, dtype and shape, which must agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import require_file
from partnerface_ns.flame.inert_pickle import (
    FLAME_NAMES,
    NUMBER_DTYPES,
    BufferArray,
    Chumpy,
    Dtype,
    EmptyArray,
    EncodedBytes,
    PickledObject,
    SparseColumns,
    load_inert,
)

MAX_BYTES = 192 << 20
"""Largest head model file, and largest sum of its arrays: several times the size of FLAME."""
ARRAY_KEYS = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights")
"""Keys of a FLAME file that the head model needs."""
FLAME_VERSIONS = ("FLAME 2020", "FLAME 2023", "FLAME 2023 Open")
"""Models with the same topology whose coefficients mean different shapes."""
OPEN_KEY = "supr_expression_metadata"
"""A key that only FLAME 2023 Open has."""
_MAX_DENSE = 10_000_000


def read_flame_pickle(path: Path) -> dict[str, np.ndarray]:
    """Arrays of the head model in a FLAME pickle, and its `name`: the FLAME version, if it can be recognised.

    Raises:
        InputError: missing, broken, or it uses a name that FLAME files do not need.
    """
    require_file(path, max_bytes=MAX_BYTES)
    try:
        content = load_inert(path.read_bytes(), FLAME_NAMES)
    except Exception as error:  # refused, or broken
        raise InputError(path, "refused: not a readable FLAME pickle", actual=shorten(error)) from error
    if not isinstance(content, dict):
        raise InputError(path, "not a FLAME pickle", expected="a dictionary", actual=type(content).__name__)
    arrays = {key: _array(content[key], path, key) for key in ARRAY_KEYS if key in content}
    return arrays | {"name": np.array(flame_version(content, path))}


def flame_version(content: Mapping[Any, object], path: Path) -> str:
    """The FLAME version of a file: by a key that only one version has, else by the official file name."""
    stem = path.stem.lower()
    if OPEN_KEY in content or stem.startswith("flame2023_open"):
        return "FLAME 2023 Open"
    if stem.startswith("flame2023"):
        return "FLAME 2023"
    if stem in ("generic_model", "male_model", "female_model") or stem.startswith("flame2020"):
        return "FLAME 2020"
    return path.stem


def _array(value: object, path: Path, key: str) -> np.ndarray:
    try:
        return _dense(value)
    except Exception as error:  # the file can contain anything
        raise InputError(path, "not an array of numbers", key=key, actual=shorten(error)) from error


def _dense(value: object) -> np.ndarray:
    """The numbers of a pickled array. Raises any exception if it is not one."""
    if isinstance(value, Chumpy):
        value = _attributes(value)["x"]
    if isinstance(value, SparseColumns):
        return _from_sparse(_attributes(value))
    if isinstance(value, EmptyArray) and isinstance(value.state, tuple):
        _, shape, dtype, fortran, raw = value.state
        return _from_bytes(raw, dtype, shape, "F" if fortran else "C")
    if isinstance(value, BufferArray):
        raw, dtype, shape, order = value.arguments
        return _from_bytes(raw, dtype, shape, order)
    raise ValueError(f"it is a {type(value).__name__}")


def _from_bytes(raw: object, dtype: object, shape: object, order: object) -> np.ndarray:
    if isinstance(raw, EncodedBytes):
        raw = raw.arguments[0]
    if isinstance(raw, str):  # Python 2, and protocols below 3, write bytes as text
        raw = raw.encode("latin1")
    if not isinstance(raw, bytes) or order not in ("C", "F"):
        raise ValueError("it contains no bytes")
    if not isinstance(shape, tuple) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError("it has no valid shape")
    kind = _plain_dtype(dtype)
    if math.prod(shape) * kind.itemsize != len(raw):
        raise ValueError(f"shape {shape} does not fit {len(raw)} bytes")
    return np.frombuffer(raw, kind).reshape(shape, order=order).copy() if raw else np.empty(shape, kind)


def _plain_dtype(dtype: object) -> np.dtype:
    if not isinstance(dtype, Dtype) or dtype.arguments[0] not in NUMBER_DTYPES:
        raise ValueError("its dtype is not numeric")
    order = dtype.state[1] if isinstance(dtype.state, tuple) else "="
    return np.dtype(dtype.arguments[0]).newbyteorder("=" if order == "|" else order)


def _from_sparse(attributes: dict) -> np.ndarray:
    """A dense matrix from the attributes of a sparse matrix in CSC format."""
    rows, columns = (int(size) for size in attributes["_shape" if "_shape" in attributes else "shape"])
    if rows < 0 or columns < 0 or rows * columns > _MAX_DENSE:
        raise ValueError(f"a sparse matrix of {rows} x {columns}")
    values, indices, starts = (_dense(attributes[key]).reshape(-1) for key in ("data", "indices", "indptr"))
    counts = np.diff(starts.astype(np.int64))
    if len(starts) != columns + 1 or starts[0] != 0 or (counts < 0).any() or starts[-1] != len(values):
        raise ValueError("a sparse matrix with wrong column counts")
    if len(indices) != len(values) or (len(indices) and not 0 <= indices.min() <= indices.max() < rows):
        raise ValueError("a sparse matrix with row indices out of range")
    dense = np.zeros((rows, columns))
    np.add.at(dense, (indices.astype(np.int64), np.repeat(np.arange(columns), counts)), values)
    return dense


def _attributes(record: PickledObject) -> dict:
    state = record.state
    if isinstance(state, tuple) and len(state) == 2:  # attributes and slots; these classes use no slots
        state = state[0]
    if not isinstance(state, dict):
        raise ValueError("it has no attributes")
    return state
