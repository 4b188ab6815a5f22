"""Opening what a user's folder holds without trusting it: plain data only, inside the folder, bounded in memory.

Every refusal is a `InputError` that names file, key, what was expected and what was found.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from partnerface_ns.common.errors import InputError

MAX_JSON_BYTES = 128 << 20
MAX_ARRAY_BYTES = 64 << 20
"""Largest npz of one frame's parameters, and the largest array in it after decompression."""
_PLAIN_KINDS = "fiubU"
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def natural_key(name: str) -> tuple[tuple[str | int, ...], str]:
    """A sort key that orders numbers inside names by value: `2.png` comes before `10.png`, with or without padding.

    The first item is equal for names that differ only in case or in the padding of their numbers.
    """
    parts = re.split(r"([0-9]+)", name.casefold())  # text and digits alternate, text comes first
    return tuple(int(part) if index % 2 else part for index, part in enumerate(parts)), name


def listed_files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """Files of a folder that end in one of these suffixes, in natural order; hidden files and folders are left out.

    Operating systems leave hidden files beside a user's own: macOS writes `._NAME` for each file on a foreign disk.

    Args:
        folder: where to look; folders in it are not entered.
        suffixes: lower case with the dot, such as `.png`; a file's own suffix may be in any case.
    """
    wanted = tuple(suffixes)
    paths = (path for path in folder.iterdir() if not path.name.startswith(".") and path.suffix.lower() in wanted)
    return sorted((path for path in paths if not path.is_dir()), key=lambda path: natural_key(path.name))


def path_inside(boundary: Path, base: Path, name: object, source: Path, key: str | None = None) -> Path:
    """Where `name`, relative to `base`, leads; symbolic links are followed.

    Args:
        boundary: the folder that nothing may lead out of, with its own links resolved.
        base: the folder that names are relative to.
        name: as written in the file.
        source: the file that says it, for the error.
        key: its entry there.

    Raises:
        InputError: not a path, absolute, or leading outside the boundary.
    """
    if not isinstance(name, str) or not name or len(name) > 4096 or "\0" in name:
        raise InputError(source, "not a path", key=key, expected="a relative path", found=shortened(name))
    name = name.replace("\\", "/")
    try:
        real = (base / name).resolve()
        inside = not name.startswith("/") and real.is_relative_to(boundary)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or a name that the system cannot have
        raise InputError(source, "the path leads nowhere", key=key, found=shortened(name)) from error
    if not inside:
        raise InputError(
            source, "the path leads outside the subject's folder", key=key, expected=f"inside {boundary}", found=name
        )
    return real


def require_file(path: Path, source: Path | None = None, key: str | None = None, max_bytes: int | None = None) -> int:
    """Size of a regular file in bytes.

    Raises:
        InputError: there is none (a folder, pipe or device is not one), it may not be read, is empty, or larger
            than allowed.
    """
    try:
        regular, size = path.is_file(), os.stat(path).st_size
    except (OSError, ValueError):
        regular, size = False, 0
    if not regular:
        raise InputError(source or path, "the file does not exist", key=key, expected=path if source else None)
    if not os.access(path, os.R_OK):
        raise InputError(path, "the file may not be read: its permissions forbid it")
    if size == 0:
        raise InputError(path, "the file is empty")
    if max_bytes is not None and size > max_bytes:
        raise InputError(path, "the file is too large", expected=f"at most {max_bytes} bytes", found=size)
    return size


def read_json(path: Path) -> object:
    """A JSON file's content; numbers that are not finite are refused.

    Raises:
        InputError: missing, too large, or not JSON.
    """
    require_file(path, max_bytes=MAX_JSON_BYTES)
    constants: list[str] = []  # NaN, Infinity and -Infinity, which are no JSON but are written
    try:
        content = json.loads(path.read_bytes(), parse_constant=lambda name: constants.append(name) or float(name))
        place = _place_of_non_finite(content) if constants else None
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(path, "not a JSON file that can be read", found=shortened(error)) from error
    if constants:
        key = (place or "").removeprefix(".") or None
        raise InputError(path, "a number is not finite", key=key, expected="a finite number", found=constants[0])
    return content


def _place_of_non_finite(value: object) -> str | None:
    """The first number in nested JSON that is not finite, as `.frames[3].pose[0]`; None if there is none."""
    if isinstance(value, float):
        return None if math.isfinite(value) else ""
    if isinstance(value, dict):
        items = [(f".{shortened(key)}", item) for key, item in value.items()]
    else:
        items = [(f"[{i}]", item) for i, item in enumerate(value)] if isinstance(value, list) else []
    for name, item in items:
        place = _place_of_non_finite(item)
        if place is not None:
            return name + place
    return None


def read_npz(path: Path, keys: Iterable[str] | None = None, max_bytes: int = MAX_ARRAY_BYTES) -> dict[str, np.ndarray]:
    """Arrays of numbers or text from an `.npz`; what it would unpack to is checked before it is unpacked.

    Args:
        path: the file.
        keys: arrays wanted, where present; None reads all.
        max_bytes: largest file, and largest sum of its arrays.

    Raises:
        InputError: missing, broken, too large, or holding anything but plain arrays.
    """
    arrays: dict[str, np.ndarray] = {}
    with _opened_npz(path, max_bytes) as archive:
        entries = _entries(archive)
        wanted = entries if keys is None else [key for key in keys if key in entries]
        left = max_bytes
        for key in wanted:
            info = entries[key]
            if info.file_size > left:
                raise InputError(path, "unpacks to too much", key=key, expected=f"at most {left} bytes")
            left -= info.file_size
            arrays[key] = _read_entry(archive, info, path, key)
    return arrays


def npz_shapes(path: Path, max_bytes: int = MAX_ARRAY_BYTES) -> dict[str, tuple[int, ...]]:
    """Shapes of an npz's arrays as their headers say, without unpacking the arrays.

    Raises:
        InputError: missing, broken or too large.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    with _opened_npz(path, max_bytes) as archive:
        for key, info in _entries(archive).items():
            _require_known_packing(info, path, key)
            try:
                with archive.open(info) as packed:
                    shapes[key] = _npy_header(packed)[0]
            except Exception as error:  # whatever the parser stumbles on is the file's fault
                raise InputError(path, "the array cannot be read", key=key, found=shortened(error)) from error
    return shapes


def _opened_npz(path: Path, max_bytes: int) -> zipfile.ZipFile:
    require_file(path, max_bytes=max_bytes)
    try:
        return zipfile.ZipFile(path)
    except Exception as error:  # whatever the parser stumbles on is the file's fault
        raise InputError(path, "the npz file cannot be read", found=shortened(error)) from error


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    return {info.filename.removesuffix(".npy"): info for info in archive.infolist()}


def _require_known_packing(info: zipfile.ZipInfo, path: Path, key: str) -> None:
    if info.flag_bits & 1 or info.compress_type not in _COMPRESSIONS:
        raise InputError(path, "is encrypted or packed in an unknown way", key=key)


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, key: str) -> np.ndarray:
    _require_known_packing(info, path, key)
    try:
        with archive.open(info) as packed:
            return array_from_npy(packed.read(info.file_size))
    except Exception as error:  # whatever the parser stumbles on is the file's fault
        raise InputError(path, "the array cannot be read", key=key, found=shortened(error)) from error


def array_from_npy(content: bytes) -> np.ndarray:
    """An array from the bytes of an `.npy` file; its header must agree with the number of bytes.

    Raises:
        ValueError: anything but a plain array.
    """
    stream = io.BytesIO(content)
    shape, fortran, dtype = _npy_header(stream)
    if dtype.hasobject or dtype.kind not in _PLAIN_KINDS or dtype.shape:
        raise ValueError(f"arrays of {dtype} are not plain")
    expected = math.prod(shape) * dtype.itemsize
    if any(size < 0 for size in shape) or expected != len(content) - stream.tell():
        raise ValueError(f"shape {shape} needs {expected} bytes, there are {len(content) - stream.tell()}")
    if expected == 0:
        return np.empty(shape, dtype)
    flat = np.frombuffer(content, dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C").copy()


def _npy_header(stream: io.BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran's order, and type; the stream then stands at the first number."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"npy version {version}")


def require_sane(values: np.ndarray, limit: float, source: Path, key: str) -> None:
    """Refuse numbers that are not finite, or larger than anything that a file of this kind may say.

    Args:
        values: numbers of any shape.
        limit: what none is to exceed, with either sign.
        source: the file that they come from.
        key: where in that file.

    Raises:
        InputError: there is such a number; it says how many, and which is the first.
    """
    wrong = np.argwhere(~(np.abs(values.astype(np.float64)) <= limit))
    if len(wrong):
        first = tuple(wrong[0].tolist())
        raise InputError(
            source,
            "holds values that are not finite or too large",
            key=key,
            expected=f"finite numbers from {-limit:g} to {limit:g}",
            found=f"{len(wrong)} others, first {values[first]} at {list(first)}",
        )


def shortened(value: object, length: int = 120) -> str:
    """The value as one short line that a terminal can show, for messages."""
    if isinstance(value, (list, dict, tuple, set)):  # their text can be long to make, or nested without end
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 256:
        return "a very large number"
    text = "".join(c if c.isprintable() else "?" for c in " ".join(str(value)[: 16 * length].split()))
    return text if len(text) <= length else text[: length - 3] + "..."


def require_writable(path: Path, hint: str = "choose another place") -> None:
    """Check that a file or folder can be made at a path, before the work for it begins.

    Raises:
        InputError: what is above it is no folder, or may not be written to; `hint` says what to do then.
    """
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if path.is_dir():
        above = path
    if not above.is_dir():
        raise InputError(path, "cannot be written", expected="a place in a folder", found=f"{above} is a file")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(path, "cannot be written", found=f"{above} may not be written to", hint=hint)


def require_writable_file(path: Path) -> None:
    """Check that a file can be written at a path, as `require_writable` does; a file that is there is replaced.

    Raises:
        InputError: a folder is there, or the place cannot be written.
    """
    if path.is_dir():
        raise InputError(path, "cannot be written", expected="a file's name", found="a folder")
    require_writable(path)


def write_failure(path: Path, error: OSError, hint: str | None = None) -> InputError:
    """What to raise where writing failed.

    Args:
        path: what was to be written.
        error: the system's.
        hint: what else the user can do.
    """
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    place = f" ({error.filename})" if error.filename is not None and str(error.filename) != str(path) else ""
    advice = "make room or choose another place" if full else "choose another place"
    hint = advice if hint is None else f"{advice}; {hint}"
    return InputError(path, "cannot be written", found=f"{error.strerror or error}{place}", hint=hint)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file whole: under a temporary name, then renamed."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    write_bytes(path, text.encode())


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as an `.npz` whole; it is packed in memory, so that a full disk is one plain error."""
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    write_bytes(path, packed.getbuffer())


def write_json(path: Path, content: object) -> None:
    """Write a JSON file whole; numbers that are not finite become null, because JSON has no word for them."""
    write_text(path, json.dumps(finite_or_null(content), indent=1, allow_nan=False) + "\n")


def finite_or_null(value: object) -> object:
    """A JSON value with null in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: finite_or_null(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_whole(path: Path) -> None:
    """Check a file that `torch.save` wrote byte by byte: torch itself reads damaged numbers without an error.

    Raises:
        InputError: missing, cut, or its content is not what was written.
    """
    require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # whatever the parser stumbles on is the file's fault
        raise InputError(path, "is damaged or incomplete", found=shortened(error)) from error
    if damaged is not None:
        raise InputError(path, "is damaged or incomplete", found=f"a wrong checksum of {damaged}")
