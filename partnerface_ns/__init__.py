"""PartNerFace: part-based neural radiance fields for animatable facial avatars, as a nerfstudio method.

`partnerface_ns.load(run)` opens a trained avatar without nerfstudio.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Loaded on first use, so that importing the package stays fast for the command line.
    if name == "load":
        return import_module("partnerface_ns.driving.player").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
