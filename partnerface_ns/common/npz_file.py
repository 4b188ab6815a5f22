"""`.npz` files: checked before they are decompressed when read, atomic when written.

Only plain arrays of numbers or text are read. Every refusal is an `InputError`.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from partnerface_ns.common.atomic import write_bytes
from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import require_file

MAX_ARRAY_BYTES = 64 << 20
"""Largest npz of one frame's parameters, and the largest sum of its arrays after decompression."""
_PLAIN_KINDS = "fiubU"
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_npz(path: Path, keys: Iterable[str] | None = None, max_bytes: int = MAX_ARRAY_BYTES) -> dict[str, np.ndarray]:
    """Arrays of numbers or text from an `.npz`. Sizes are checked before anything is decompressed.

    Args:
        path: the file.
        keys: names of the arrays to read; names that the file does not have are skipped. None reads all arrays.
        max_bytes: largest file, and largest sum of its arrays.

    Raises:
        InputError: missing, broken, too large, or an array is not plain.
    """
    arrays: dict[str, np.ndarray] = {}
    with _open_npz(path, max_bytes) as archive:
        entries = _entries(archive)
        wanted = entries if keys is None else [key for key in keys if key in entries]
        left = max_bytes
        for key in wanted:
            info = entries[key]
            if info.file_size > left:
                raise InputError(path, "the decompressed array is too large", key=key, expected=f"at most {left} bytes")
            left -= info.file_size
            arrays[key] = _read_entry(archive, info, path, key)
    return arrays


def npz_shapes(path: Path, max_bytes: int = MAX_ARRAY_BYTES) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays in an `.npz`, from their headers; the arrays are not decompressed.

    Raises:
        InputError: missing, broken or too large.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    with _open_npz(path, max_bytes) as archive:
        for key, info in _entries(archive).items():
            _require_known_compression(info, path, key)
            try:
                with archive.open(info) as packed:
                    shapes[key] = _read_npy_header(packed)[0]
            except Exception as error:  # a broken file can make the parser raise anything
                raise InputError(path, "the array cannot be read", key=key, actual=shorten(error)) from error
    return shapes


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as an `.npz` atomically. It is built in memory, so that a full disk gives one plain error."""
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    write_bytes(path, packed.getbuffer())


def array_from_npy(content: bytes) -> np.ndarray:
    """The array in the bytes of an `.npy` file. Its header must agree with the number of bytes.

    Raises:
        ValueError: not a plain array.
    """
    stream = io.BytesIO(content)
    shape, fortran, dtype = _read_npy_header(stream)
    if dtype.hasobject or dtype.kind not in _PLAIN_KINDS or dtype.shape:
        raise ValueError(f"arrays of {dtype} are not plain")
    expected = math.prod(shape) * dtype.itemsize
    if any(size < 0 for size in shape) or expected != len(content) - stream.tell():
        raise ValueError(f"shape {shape} needs {expected} bytes, there are {len(content) - stream.tell()}")
    if expected == 0:
        return np.empty(shape, dtype)
    flat = np.frombuffer(content, dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C").copy()


def require_bounded(values: np.ndarray, limit: float, source: Path, key: str) -> None:
    """Check that all numbers are finite and at most `limit` in absolute value.

    Args:
        values: numbers of any shape.
        limit: largest absolute value.
        source: the file that the numbers come from, for error messages.
        key: their key in that file, for error messages.

    Raises:
        InputError: names how many numbers are out of bounds, and the first of them.
    """
    wrong = np.argwhere(~(np.abs(values.astype(np.float64)) <= limit))
    if len(wrong):
        first = tuple(wrong[0].tolist())
        raise InputError(
            source,
            "holds values that are not finite or too large",
            key=key,
            expected=f"finite numbers from {-limit:g} to {limit:g}",
            actual=f"{len(wrong)} others, first {values[first]} at {list(first)}",
        )


def _open_npz(path: Path, max_bytes: int) -> zipfile.ZipFile:
    require_file(path, max_bytes=max_bytes)
    try:
        return zipfile.ZipFile(path)
    except Exception as error:  # a broken file can make the parser raise anything
        raise InputError(path, "the npz file cannot be read", actual=shorten(error)) from error


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    return {info.filename.removesuffix(".npy"): info for info in archive.infolist()}


def _require_known_compression(info: zipfile.ZipInfo, path: Path, key: str) -> None:
    if info.flag_bits & 1 or info.compress_type not in _COMPRESSIONS:
        raise InputError(path, "is encrypted or compressed in an unknown way", key=key)


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, key: str) -> np.ndarray:
    _require_known_compression(info, path, key)
    try:
        with archive.open(info) as packed:
            return array_from_npy(packed.read(info.file_size))
    except Exception as error:  # a broken file can make the parser raise anything
        raise InputError(path, "the array cannot be read", key=key, actual=shorten(error)) from error


def _read_npy_header(stream: IO[bytes] | io.BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the order is Fortran's, and dtype. Afterwards the stream is at the first number."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"npy version {version}")
