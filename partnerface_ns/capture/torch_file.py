"""Safe reading of arrays from a file that `torch.save` wrote.

`torch.load(weights_only=True)` runs no foreign code, but a malicious file can make it allocate all memory or hash
without end. The pickle is therefore checked first.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import require_file
from partnerface_ns.flame.inert_pickle import NUMBER_DTYPES, NUMPY_NAMES, load_inert

MAX_BYTES = 64 << 20
_MAX_MEMBERS = 1000


def read_torch_file(path: Path) -> dict[str, Any]:
    """Read the dictionary of numpy arrays in a file.

    Args:
        path: a file in torch's zip format, whose members are not compressed.

    Raises:
        InputError: missing, broken, too large, or it contains more than numbers, text, arrays and containers.
    """
    require_file(path, max_bytes=MAX_BYTES)
    _check_pickle(path)
    try:
        with torch.serialization.safe_globals(_not_yet_allowed(_numpy_globals())):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # refused by torch, or broken
        raise InputError(path, "holds more than plain data, or is broken", actual=shorten(error)) from error
    if not isinstance(content, dict):
        raise InputError(path, "wrong content", expected="a dictionary", actual=type(content).__name__)
    return content


def _check_pickle(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(m.compress_type != zipfile.ZIP_STORED for m in members) or len(members) > _MAX_MEMBERS:
                raise ValueError("its members are compressed, or too many")
            if sum(m.file_size for m in members) > MAX_BYTES:
                raise ValueError(f"it unpacks to more than {MAX_BYTES} bytes")
            pickles = [m for m in members if m.filename.endswith("data.pkl")]
            for member in pickles:
                load_inert(archive.read(member), NUMPY_NAMES)
    except Exception as error:  # refused above, or broken
        raise InputError(path, "refused: not plain arrays that torch wrote", actual=shorten(error)) from error


def array_group(content: dict[str, Any], key: str, source: Path) -> dict[str, np.ndarray]:
    """A dictionary of arrays inside a file's dictionary.

    Raises:
        InputError: missing, or not a dictionary.
    """
    group = content.get(key)
    if not isinstance(group, dict):
        actual = f"keys {shorten(', '.join(map(str, content)))}" if group is None else type(group).__name__
        raise InputError(source, "a group of arrays is missing", key=key, expected="a dictionary", actual=actual)
    return {str(name): value for name, value in group.items()}


def _not_yet_allowed(names: list) -> list:
    """Names that torch does not allow yet. On exit `safe_globals` removes all names it was given, even earlier ones."""
    allowed = torch.serialization.get_safe_globals()
    return [name for name in names if name not in allowed]


def _numpy_globals() -> list[tuple[Callable[..., Any], str] | type]:
    """Functions and classes that pickled numpy arrays use, under the module paths of numpy 1 and 2."""
    reconstruct: Any = np.array(0).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    named: list[tuple[Callable[..., Any], str]] = [
        (function, f"numpy.{core}.multiarray.{name}")
        for function, name in ((reconstruct, "_reconstruct"), (scalar, "scalar"))
        for core in ("core", "_core")
    ]
    return [*named, np.ndarray, np.dtype, *{type(np.dtype(name)) for name in NUMBER_DTYPES}]
