"""FLAME's own pickles as plain arrays: of Python 2 and 3, with or without chumpy, whatever version of scipy wrote them.

Nothing in the file is run (see `inert_pickle.py`); arrays are made here from their bytes, type and shape, which must
agree.
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
"""Largest head model file, and the largest sum of its arrays: several times what FLAME's have."""
ARRAY_KEYS = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights")
"""What of a FLAME file makes the head model."""
FLAME_VERSIONS = ("FLAME 2020", "FLAME 2023", "FLAME 2023 Open")
"""Names of models of one topology whose coefficients mean different shapes."""
OPEN_KEY = "supr_expression_metadata"
"""A key that only FLAME 2023 Open has."""
_MAX_DENSE = 10_000_000


def read_flame_pickle(path: Path) -> dict[str, np.ndarray]:
    """The head model's arrays out of a FLAME pickle, with its `name` (which FLAME it is, as far as can be told).

    Raises:
        InputError: missing, broken, or naming anything that a FLAME file does not need.
    """
    require_file(path, max_bytes=MAX_BYTES)
    try:
        content = load_inert(path.read_bytes(), FLAME_NAMES)
    except Exception as error:  # refused, or broken
        raise InputError(path, "refused: not a FLAME pickle that can be read", found=shorten(error)) from error
    if not isinstance(content, dict):
        raise InputError(path, "not a FLAME pickle", expected="a dictionary", found=type(content).__name__)
    arrays = {key: _array(content[key], path, key) for key in ARRAY_KEYS if key in content}
    return arrays | {"name": np.array(flame_version(content, path))}


def flame_version(content: Mapping[Any, object], path: Path) -> str:
    """Which FLAME a file is: by what only one of them has, else by the file's name as it was given out."""
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
    except Exception as error:  # the records hold whatever the file says
        raise InputError(path, "not an array of numbers", key=key, found=shorten(error)) from error


def _dense(value: object) -> np.ndarray:
    """Numbers out of a record; any exception where it holds something else."""
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
        raise ValueError("it has no bytes")
    if not isinstance(shape, tuple) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError("it has no shape")
    kind = _plain_dtype(dtype)
    if math.prod(shape) * kind.itemsize != len(raw):
        raise ValueError(f"shape {shape} does not fit {len(raw)} bytes")
    return np.frombuffer(raw, kind).reshape(shape, order=order).copy() if raw else np.empty(shape, kind)


def _plain_dtype(dtype: object) -> np.dtype:
    if not isinstance(dtype, Dtype) or dtype.arguments[0] not in NUMBER_DTYPES:
        raise ValueError("its type is not a number's")
    order = dtype.state[1] if isinstance(dtype.state, tuple) else "="
    return np.dtype(dtype.arguments[0]).newbyteorder("=" if order == "|" else order)


def _from_sparse(attributes: dict) -> np.ndarray:
    """A dense matrix from columns of values with their rows."""
    rows, columns = (int(size) for size in attributes.get("_shape", attributes.get("shape")))
    if rows < 0 or columns < 0 or rows * columns > _MAX_DENSE:
        raise ValueError(f"a sparse matrix of {rows} x {columns}")
    values, indices, starts = (_dense(attributes[key]).reshape(-1) for key in ("data", "indices", "indptr"))
    counts = np.diff(starts.astype(np.int64))
    if len(starts) != columns + 1 or starts[0] != 0 or (counts < 0).any() or starts[-1] != len(values):
        raise ValueError("a sparse matrix whose columns do not add up")
    if len(indices) != len(values) or (len(indices) and not 0 <= indices.min() <= indices.max() < rows):
        raise ValueError("a sparse matrix with values outside of it")
    dense = np.zeros((rows, columns))
    np.add.at(dense, (indices.astype(np.int64), np.repeat(np.arange(columns), counts)), values)
    return dense


def _attributes(record: PickledObject) -> dict:
    state = record.state
    if isinstance(state, tuple) and len(state) == 2:  # attributes, and slots that these classes do not use
        state = state[0]
    if not isinstance(state, dict):
        raise ValueError("it has no attributes")
    return state
