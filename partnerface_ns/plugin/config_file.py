"""A run's config.yml, read without running what it says.

nerfstudio writes its configuration as YAML of Python objects, and its own loader imports and calls whatever such a file
names. Here a file only changes the settings of this version's own method: classes and functions are compared by name,
and nothing else is made than plain values, paths and event names.
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

CONFIG_NAME = "config.yml"
_MAX_BYTES = 1 << 20
_PYTHON = "tag:yaml.org,2002:python/"
_FIRST_AND_LAST = {"data", "pipeline", "vis"}
"""Settings that every version writes, `vis` as the last one: a file that was cut has it not."""
_MOVED = {
    "partnerface_ns.avatar_config.AvatarConfig": "partnerface_ns.avatar.config.AvatarConfig",
    "partnerface_ns.training.RaySamplerConfig": "partnerface_ns.training.rays.RaySamplerConfig",
}
"""Classes whose modules had other names in earlier versions."""
_CODE = object()
"""Stands for a class or function that a file names: the setting keeps this version's own."""


def read_config(path: Path) -> PartnerfaceTrainerConfig:
    """Read a run's config.yml; its run is the folder that the file lies in.

    Raises:
        InputError: not such a file, the run of another method, or of another version.
    """
    require_file(path, max_bytes=_MAX_BYTES)
    try:
        node = yaml.compose(path.read_text("utf8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(path, "not a YAML file that can be read", found=shorten(error)) from error
    return config_of_node(node, path)


def config_of_node(node: yaml.Node | None, path: Path) -> PartnerfaceTrainerConfig:
    """The same from the file's parsed content."""
    name = _method_name(node)
    defaults = {config.method_name: config for config in (lite(), full())}
    expected = " or ".join(map(str, defaults))
    if node is None or node.tag != f"{_PYTHON}object:{_name(PartnerfaceTrainerConfig)}":
        raise InputError(path, "not a run of this method", expected=expected, found=name or "no method's settings")
    if name not in defaults:
        raise InputError(path, "an unknown method", key="method_name", expected=expected, found=name)
    try:
        values = _PlainLoader(path, defaults[name]).construct_document(node)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(path, "cannot be read", found=shorten(error)) from error
    if not values.keys() >= _FIRST_AND_LAST:
        raise InputError(path, "is incomplete", found=f"{len(values)} settings")
    config = config_from_dict(defaults[name], values, path)
    missing = missing_settings(defaults[name], values)
    if missing:
        print(f"{path}: settings that are not in it have their defaults: {', '.join(missing)}")
    return config


def _method_name(node: yaml.Node | None) -> str | None:
    entries = node.value if isinstance(node, yaml.MappingNode) else []
    return next((str(value.value) for key, value in entries if key.value == "method_name"), None)


class _PlainLoader(yaml.SafeLoader):
    """Makes plain values of a config.yml; classes must be among those of a configuration."""

    def __init__(self, path: Path, config: object) -> None:
        super().__init__("")
        self._path = path
        self._names = set(_names_in(config))

    def known(self, name: str) -> None:
        if _MOVED.get(name, name) not in self._names:
            raise InputError(
                self._path, "names what this version does not have: the run is of another version", found=name
            )

    def settings(self, name: str, node: yaml.MappingNode) -> dict[Any, Any]:
        self.known(name)
        values = self.construct_mapping(node, deep=True)
        return {key: value for key, value in values.items() if value is not _CODE}

    def code(self, name: str, node: yaml.Node) -> object:
        self.known(name)
        return _CODE

    def called(self, name: str, node: yaml.SequenceNode) -> object:
        arguments = self.construct_sequence(node, deep=True)
        if name in ("pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.PurePosixPath"):
            return Path(*arguments)
        if name == _name(writer.EventName):
            return writer.EventName(*arguments)
        raise InputError(self._path, "calls what no run needs", found=name)

    def tuple_(self, node: yaml.SequenceNode) -> tuple[Any, ...]:
        return tuple(self.construct_sequence(node, deep=True))


_PlainLoader.add_multi_constructor(f"{_PYTHON}object:", _PlainLoader.settings)
_PlainLoader.add_multi_constructor(f"{_PYTHON}object/apply:", _PlainLoader.called)
_PlainLoader.add_multi_constructor(f"{_PYTHON}name:", _PlainLoader.code)
_PlainLoader.add_constructor(f"{_PYTHON}tuple", _PlainLoader.tuple_)


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
