"""Targets of nerfstudio's entry points: the methods and the dataparser, loaded on access.

nerfstudio loads every plugin in every command, so a broken installation must not end the command. In place of a
specification that cannot be loaded, this module gives a text with the reason, and nerfstudio prints it as a warning.
The dataparser is loaded without the methods, because nerfstudio's own configs are half imported at that time.
"""

from __future__ import annotations

from importlib import import_module

_MODULES = {
    "partnerface": "partnerface_ns.plugin.configs",
    "partnerface_lite": "partnerface_ns.plugin.configs",
    "flame_data": "partnerface_ns.plugin.dataparser",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(name)
    try:
        return getattr(import_module(_MODULES[name]), name)
    except Exception as error:  # whatever is broken here, other methods must still work
        return f"{name} (cannot be loaded: {type(error).__name__}: {error})"
