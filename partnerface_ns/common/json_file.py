"""JSON files: bounded and finite when read, atomic when written."""

from __future__ import annotations

import json
import math
from pathlib import Path

from partnerface_ns.common.atomic import write_text
from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import require_file

MAX_JSON_BYTES = 128 << 20


def read_json(path: Path) -> object:
    """The content of a JSON file.

    Raises:
        InputError: missing, too large, not JSON, or a number is not finite.
    """
    require_file(path, max_bytes=MAX_JSON_BYTES)
    constants: list[str] = []  # NaN, Infinity and -Infinity: not JSON, but some programs write them
    try:
        content = json.loads(path.read_bytes(), parse_constant=lambda name: constants.append(name) or float(name))
        place = _first_non_finite(content) if constants else None
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(path, "not a JSON file, or broken", actual=shorten(error)) from error
    if constants:
        key = (place or "").removeprefix(".") or None
        raise InputError(path, "a number is not finite", key=key, expected="a finite number", actual=constants[0])
    return content


def write_json(path: Path, content: object) -> None:
    """Write a JSON file atomically. Numbers that are not finite become null."""
    write_text(path, json.dumps(finite_or_null(content), indent=1, allow_nan=False) + "\n")


def finite_or_null(value: object) -> object:
    """A JSON value with null in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: finite_or_null(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _first_non_finite(value: object) -> str | None:
    """Key of the first number in nested JSON that is not finite, such as `.frames[3].pose[0]`; None without one."""
    if isinstance(value, float):
        return None if math.isfinite(value) else ""
    if isinstance(value, dict):
        items = [(f".{shorten(key)}", item) for key, item in value.items()]
    else:
        items = [(f"[{i}]", item) for i, item in enumerate(value)] if isinstance(value, list) else []
    for name, item in items:
        place = _first_non_finite(item)
        if place is not None:
            return name + place
    return None
