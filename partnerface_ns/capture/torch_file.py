"""Arrays out of a file that `torch.save` wrote: weights-only loading, and nothing else."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from partnerface_ns.errors import SubjectError
from partnerface_ns.files import require_file, shortened

MAX_BYTES = 64 << 20
_DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


def read_torch_file(path: Path) -> dict[str, Any]:
    """The dictionary in a file; its arrays are numpy's or torch's.

    Args:
        path: a file of torch's zip format, whose members are stored as they are.

    Raises:
        SubjectError: missing, broken, too large, or holding more than numbers, text and containers.
    """
    require_file(path, max_bytes=MAX_BYTES)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:  # whatever the parser stumbles on is the file's fault
        raise SubjectError(path, "not a file that torch wrote", found=shortened(error)) from error
    if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > MAX_BYTES:
        raise SubjectError(path, "unpacks to too much", expected=f"at most {MAX_BYTES} bytes, stored")
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch refuses what is not plain data, and stumbles on what is broken
        raise SubjectError(path, "holds more than plain data, or is broken", found=shortened(error)) from error
    if not isinstance(content, dict):
        raise SubjectError(path, "wrong content", expected="a dictionary", found=type(content).__name__)
    return content


def array_group(content: dict[str, Any], key: str, source: Path) -> dict[str, np.ndarray]:
    """A dictionary of arrays inside the file's; torch's tensors become numpy's.

    Raises:
        SubjectError: missing, or not a dictionary.
    """
    group = content.get(key)
    if not isinstance(group, dict):
        found = f"keys {shortened(', '.join(map(str, content)))}" if group is None else type(group).__name__
        raise SubjectError(source, "a group of arrays is missing", key=key, expected="a dictionary", found=found)
    return {str(name): plain_array(value) for name, value in group.items()}


def plain_array(value: Any) -> np.ndarray:
    """A tensor as a numpy array; all else as it is, for the caller's checks."""
    return value.detach().numpy() if isinstance(value, torch.Tensor) and value.layout == torch.strided else value


def _numpy_globals() -> list[tuple[Callable[..., Any], str] | type]:
    """What pickled numpy arrays name, under the module paths of numpy 1 and 2."""
    reconstruct, scalar = np.array(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    named = [
        (function, f"numpy.{core}.multiarray.{name}")
        for function, name in ((reconstruct, "_reconstruct"), (scalar, "scalar"))
        for core in ("core", "_core")
    ]
    return [*named, np.ndarray, np.dtype, *{type(np.dtype(name)) for name in _DTYPES}]
