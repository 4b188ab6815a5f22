"""Imports of the packages that the extra `track` installs."""

from __future__ import annotations

import importlib
from typing import Any

from partnerface_ns.common.errors import InputError

INSTALL_HINT = "pip install 'partnerface[track]'"


def require(module: str) -> Any:
    """Import a module of the `track` extra.

    Raises:
        InputError: it is not installed; names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(module, "tracking needs this package", actual=error, hint=INSTALL_HINT) from error
