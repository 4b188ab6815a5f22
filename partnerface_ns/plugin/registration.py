"""Where nerfstudio's entry points lead: the methods and the dataparser, loaded when they are asked for.

nerfstudio loads every plugin in every command, so what cannot be loaded here must say so and let the command go on:
it prints a warning with the reason that this module gives in place of a specification. The dataparser loads
alone, because at that moment nerfstudio's own configs are half imported.
"""

from __future__ import annotations

from importlib import import_module

_PLACES = {
    "partnerface": "partnerface_ns.plugin.configs",
    "partnerface_lite": "partnerface_ns.plugin.configs",
    "flame_data": "partnerface_ns.plugin.dataparser",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(name)
    try:
        return getattr(import_module(_PLACES[name]), name)
    except Exception as error:  # whatever is broken in this installation, the other methods still work
        return f"{name} (cannot be loaded: {type(error).__name__}: {error})"
