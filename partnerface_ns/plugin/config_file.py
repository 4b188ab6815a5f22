"""Reads a run's config.yml without running code from it.

nerfstudio writes its configuration as a YAML of Python objects. Its own loader imports and calls whatever such a file
names. Here a file only changes settings of this version's method. Classes and functions are compared by name, and only
plain values, paths and event names are created.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml
from nerfstudio.configs.base_config import writer  # nerfstudio's writer cannot be the first module imported

from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import require_file
from partnerface_ns.common.settings import config_from_dict, missing_settings
from partnerface_ns.plugin.configs import full, lite
from partnerface_ns.plugin.trainer import PartnerfaceTrainerConfig

_MAX_BYTES = 1 << 20
_PYTHON = "tag:yaml.org,2002:python/"
_FIRST_AND_LAST = {"data", "pipeline", "vis"}
"""Settings that every version writes. `vis` is written last, so a truncated file lacks it."""
_RENAMED = {
    "partnerface_ns.avatar_config.AvatarConfig": "partnerface_ns.avatar.config.AvatarConfig",
    "partnerface_ns.training.RaySamplerConfig": "partnerface_ns.training.rays.RaySamplerConfig",
}
"""Classes that had another name or module in earlier versions."""
_CODE = object()
"""Placeholder for a class or function in a file. The setting keeps this version's value."""


def read_config(path: Path) -> PartnerfaceTrainerConfig:
    """Read a run's config.yml.

    Raises:
        InputError: the file cannot be read, or the run belongs to another method or version.
    """
    require_file(path, max_bytes=_MAX_BYTES)
    try:
        node = yaml.compose(path.read_text("utf8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(path, "not a YAML file that can be read", actual=shorten(error)) from error
    return config_from_node(node, path)


def config_from_node(node: yaml.Node | None, path: Path) -> PartnerfaceTrainerConfig:
    """The configuration in the parsed content of a config.yml; errors as for `read_config`."""
    name = _method_name(node)
    defaults = {config.method_name: config for config in (lite(), full())}
    expected = " or ".join(map(str, defaults))
    if node is None or node.tag != f"{_PYTHON}object:{_name(PartnerfaceTrainerConfig)}":
        raise InputError(path, "not a run of this method", expected=expected, actual=name or "no method's settings")
    if name not in defaults:
        raise InputError(path, "an unknown method", key="method_name", expected=expected, actual=name)
    try:
        values = _PlainLoader(path, defaults[name]).construct_document(node)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(path, "cannot be read", actual=shorten(error)) from error
    if not values.keys() >= _FIRST_AND_LAST:
        raise InputError(path, "is incomplete", actual=f"{len(values)} settings")
    config = config_from_dict(defaults[name], values, path)
    missing = missing_settings(defaults[name], values)
    if missing:
        print(f"{path}: missing settings get their defaults: {', '.join(missing)}")
    return config


def _method_name(node: yaml.Node | None) -> str | None:
    entries = node.value if isinstance(node, yaml.MappingNode) else []
    return next((str(value.value) for key, value in entries if key.value == "method_name"), None)


class _PlainLoader(yaml.SafeLoader):
    """Creates plain values from a config.yml. Classes must be among those of a configuration."""

    def __init__(self, path: Path, config: object) -> None:
        super().__init__("")
        self._path = path
        self._names = set(_names_in(config))

    def require_known(self, name: str) -> None:
        if _RENAMED.get(name, name) not in self._names:
            raise InputError(
                self._path, "names a class that this version does not have: the run is of another version", actual=name
            )

    def construct_settings(self, name: str, node: yaml.MappingNode) -> dict[Any, Any]:
        self.require_known(name)
        values = self.construct_mapping(node, deep=True)
        return {key: value for key, value in values.items() if value is not _CODE}

    def construct_code(self, name: str, node: yaml.Node) -> object:
        self.require_known(name)
        return _CODE

    def construct_call(self, name: str, node: yaml.SequenceNode) -> object:
        arguments = self.construct_sequence(node, deep=True)
        if name in ("pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.PurePosixPath"):
            return Path(*arguments)
        if name == _name(writer.EventName):
            return writer.EventName(*arguments)
        raise InputError(self._path, "calls a function that no run needs", actual=name)

    def construct_tuple(self, node: yaml.SequenceNode) -> tuple[Any, ...]:
        return tuple(self.construct_sequence(node, deep=True))


_PlainLoader.add_multi_constructor(f"{_PYTHON}object:", _PlainLoader.construct_settings)
_PlainLoader.add_multi_constructor(f"{_PYTHON}object/apply:", _PlainLoader.construct_call)
_PlainLoader.add_multi_constructor(f"{_PYTHON}name:", _PlainLoader.construct_code)
_PlainLoader.add_constructor(f"{_PYTHON}tuple", _PlainLoader.construct_tuple)


def _names_in(value: object) -> Iterator[str]:
    """Names of all classes and functions in a configuration."""
    if is_dataclass(value) and not isinstance(value, type):
        yield _name(type(value))
        for field in fields(value):
            yield from _names_in(getattr(value, field.name))
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _names_in(entry)
    elif callable(value) and not isinstance(value, PurePath):
        yield _name(value)


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"
