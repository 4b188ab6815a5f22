"""Settings from a file, applied to a configuration of nested dataclasses. Names and types are checked."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import fields, is_dataclass
from itertools import repeat
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from partnerface_ns.common.errors import InputError, shorten

Config = TypeVar("Config")


def config_from_dict(default: Config, values: object, source: Path, where: str = "") -> Config:
    """A configuration from nested dictionaries in the form of `asdict`.

    Missing fields keep their default. A class lists in `ABSENT` the fields that earlier versions did not write, with
    the values that those versions amounted to. It lists in `REMOVED` the fields that only earlier versions had.

    Args:
        default: an instance whose fields give names and types.
        values: plain values by field.
        source: the file, for error messages.
        where: prefix of the fields' names in error messages.

    Raises:
        InputError: an unknown field, or a value of the wrong type.
    """
    hints, changes = get_type_hints(type(default), include_extras=True), {}
    for written, value in {**_absent(default), **_require_mapping(values, source, where)}.items():
        if written in getattr(default, "REMOVED", ()):
            continue
        name = _current_name(default, written)
        now = _lookup(vars(default), name, source, where)
        if is_dataclass(now) and value is not None:
            changes[name] = config_from_dict(now, value, source, f"{where}{name}.")
        elif isinstance(now, dict) and now:
            changes[name] = _entries(now, value, source, f"{where}{name}.")
        else:
            changes[name] = _check_value(value, hints[name], source, where + name)
    config = copy(default)
    vars(config).update(changes)
    return config


def missing_settings(default: object, values: Mapping[str, Any], where: str = "") -> list[str]:
    """Names of the fields that nested dictionaries lack. Fields that hold a class or a function are not settings."""
    values = {_current_name(default, name): value for name, value in {**_absent(default), **values}.items()}
    missing: list[str] = []
    for field in fields(default):  # type: ignore[arg-type]
        now = getattr(default, field.name)
        if callable(now):
            continue
        if field.name not in values:
            missing.append(where + field.name)
        elif is_dataclass(now) and isinstance(values[field.name], Mapping):
            missing += missing_settings(now, values[field.name], f"{where}{field.name}.")
    return missing


def _absent(default: object) -> Mapping[str, Any]:
    return getattr(default, "ABSENT", {})


def _current_name(default: object, name: str) -> str:
    """A field's name in this version; a class lists old names in `RENAMED`."""
    return getattr(default, "RENAMED", {}).get(name, name)


def fits(value: object, hint: Any) -> bool:
    """Whether a value has an annotated type. Of classes only `Path` is checked."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return fits(value, inner[0])
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin in (tuple, list):
        return isinstance(value, (tuple, list)) and _all_fit(value, inner)
    if origin is dict:
        return isinstance(value, dict)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    if hint is Path:
        return isinstance(value, Path)
    return type(value) is hint if hint in (int, str, bool, types.NoneType) else True


def _all_fit(values: Sequence[object], inner: tuple[Any, ...]) -> bool:
    if len(inner) == 1 or Ellipsis in inner:
        return all(map(fits, values, repeat(inner[0])))
    return len(values) == len(inner) and all(map(fits, values, inner))


def _require_mapping(values: object, source: Path, where: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise InputError(
            source, "wrong kind of setting", key=where.rstrip("."), expected="settings", actual=shorten(values)
        )
    return values


def _lookup(known: Mapping[str, Any], name: object, source: Path, where: str) -> Any:
    if name not in known:
        raise InputError(source, "an unknown setting: the file is of another version", key=f"{where}{name}")
    return known[name]  # type: ignore[index]


def _entries(now: Mapping[str, Any], values: object, source: Path, where: str) -> dict[str, Any]:
    """A dictionary of settings with changed values; its keys stay the same."""
    changed = dict(now)
    for name, value in _require_mapping(values, source, where).items():
        entry = _lookup(now, name, source, where)
        if is_dataclass(entry) and value is not None:
            changed[name] = config_from_dict(entry, value, source, f"{where}{name}.")
        elif isinstance(entry, dict) and entry:
            changed[name] = _entries(entry, value, source, f"{where}{name}.")
        else:
            changed[name] = value
    return changed


def _check_value(value: object, hint: Any, source: Path, where: str) -> object:
    if not fits(value, hint):
        expected = getattr(hint, "__name__", None) if get_origin(hint) is None else str(hint).replace("typing.", "")
        raise InputError(source, "wrong kind of setting", key=where, expected=expected, actual=shorten(value))
    if get_origin(hint) is tuple or (
        isinstance(value, list) and any(get_origin(one) is tuple for one in get_args(hint))
    ):
        return tuple(value)  # type: ignore[arg-type]
    return value
