"""Checked access to a user's JSON. Every error names file and key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float64

from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import path_inside, require_file
from partnerface_ns.common.json_file import read_json

MAX_NUMBER = 1e6
"""Bound for coefficients, angles, lengths and pixel coordinates. Larger numbers are treated as faults."""


@dataclass(frozen=True)
class JsonObject:
    """A JSON object in a user's file."""

    source: Path
    """The file that contains it."""
    values: Mapping[str, Any]
    where: str = ""
    """Its position in the file: a prefix of its keys in messages."""

    @staticmethod
    def read(path: Path) -> JsonObject:
        """Read the object in a JSON file.

        Raises:
            InputError: missing, not JSON, or not an object.
        """
        return _object(path, read_json(path), "")

    def key(self, name: str) -> str:
        return f"{self.where}{name}"

    def has(self, name: str) -> bool:
        return self.values.get(name) is not None

    def number(self, name: str, low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> float:
        """A number within bounds."""
        value = self._value(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise self.error(name, f"a number from {low:g} to {high:g}", value)
        return float(value)

    def index(self, name: str) -> int:
        """A whole number, 0 or more."""
        value = self.number(name, 0.0, 1e9)
        if value != int(value):
            raise self.error(name, "a whole number", value)
        return int(value)

    def text(self, name: str) -> str:
        value = self._value(name)
        if not isinstance(value, str) or len(value) > 4096 or not value.isprintable():
            raise self.error(name, "a text", value)
        return value

    def path(self, name: str) -> PurePosixPath:
        """A path as written, with backslashes replaced by slashes."""
        return PurePosixPath(self.text(name).replace("\\", "/"))

    def numbers(self, name: str, *shape: int) -> Float64[np.ndarray, "*shape"]:
        """Nested lists of numbers of exactly this shape, float64."""
        value = self._value(name)
        flat: list[float] = []
        fault = _flatten(value, shape, flat)
        if fault is not None:
            place, value = fault
            raise self.error(f"{name}{place}", f"numbers of shape {shape}, each below {MAX_NUMBER:g}", value)
        return np.array(flat, dtype=np.float64).reshape(shape)

    def children(self, name: str) -> list[JsonObject]:
        """A list of objects."""
        value = self._value(name)
        if not isinstance(value, list):
            raise self.error(name, "a list", value)
        return [_object(self.source, entry, f"{self.key(name)}[{i}].") for i, entry in enumerate(value)]

    def child(self, name: str) -> JsonObject:
        return _object(self.source, self._value(name), f"{self.key(name)}.")

    def file(self, name: str, boundary: Path, suffix: str = "") -> Path:
        """The file that an entry names, relative to the JSON's folder. It must exist inside the boundary."""
        value = self._value(name)
        if isinstance(value, str):
            value += suffix
        path = path_inside(boundary, self.source.parent, value, self.source, self.key(name))
        require_file(path, self.source, self.key(name))
        return path

    def error(self, name: str, expected: object, actual: object) -> InputError:
        return InputError(self.source, "wrong value", key=self.key(name), expected=expected, actual=shorten(actual))

    def _value(self, name: str) -> Any:
        if name not in self.values:
            known = ", ".join(list(self.values)[:30])
            raise InputError(self.source, "a key is missing", key=self.key(name), actual=shorten(f"keys {known}"))
        return self.values[name]


def _object(source: Path, value: object, where: str) -> JsonObject:
    if not isinstance(value, dict):
        raise InputError(
            source, "wrong value", key=where.rstrip(".") or None, expected="an object", actual=shorten(value)
        )
    return JsonObject(source, value, where)


def _flatten(value: object, shape: tuple[int, ...], into: list[float]) -> tuple[str, object] | None:
    """Append the numbers of nested lists of exactly this shape. Returns place and value of the first fault, if any.

    Numbers that are out of bounds or not finite are faults.
    """
    if not shape:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= MAX_NUMBER:
            return "", value
        into.append(float(value))
        return None
    if not isinstance(value, list) or len(value) != shape[0]:
        return "", _shape_of(value)
    for index, entry in enumerate(value):
        fault = _flatten(entry, shape[1:], into)
        if fault is not None:
            return f"[{index}]{fault[0]}", fault[1]
    return None


def _shape_of(value: object) -> str:
    """Sizes of the outermost levels of nested lists, for messages."""
    sizes: list[int] = []
    while isinstance(value, list) and len(sizes) < 4:
        sizes.append(len(value))
        value = value[0] if value else None
    return f"lists of sizes {sizes}, first entry {shorten(value)}" if sizes else shorten(value)
