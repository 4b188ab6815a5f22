"""Named expressions of the viewer: presets, and those that a person saved in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from partnerface_ns.capture.json_object import JsonObject
from partnerface_ns.common.atomic import write_text

SAVED_NAME = "expressions.json"
"""File in the run folder that holds the saved expressions."""
UNNAMED = "-"
"""Name of no expression."""
PRESETS: Mapping[str, Mapping[str, float]] = {
    "neutral": {},
    "smile": {"mouthSmile": 0.8, "cheekSquint": 0.4, "smile": 1.0},
    "surprise": {"browInnerUp": 0.9, "browOuterUp": 0.8, "eyeWide": 0.8, "jaw": 0.18},
}
"""Channels of each preset. Channels that a head does not have are ignored."""


class Expressions:
    """Presets and saved expressions, each with its channels. Without a folder, nothing is written."""

    def __init__(self) -> None:
        self._saved: dict[str, dict[str, float]] = {}
        self._path: Path | None = None

    @property
    def names(self) -> list[str]:
        return [*PRESETS, *self._saved]

    def __getitem__(self, name: str) -> Mapping[str, float]:
        return PRESETS[name] if name in PRESETS else self._saved[name]

    def is_saved(self, name: str) -> bool:
        """Whether a person saved this expression, so that it can be deleted."""
        return name in self._saved

    def use_folder(self, folder: Path) -> None:
        """Read the expressions saved in this run folder, and write there from now on.

        Raises:
            InputError: the file of saved expressions cannot be read.
        """
        self._path = folder / SAVED_NAME
        if self._path.is_file():
            saved = JsonObject.read(self._path)
            for name in saved.values:
                channels = saved.child(name)
                self._saved[name] = {channel: channels.number(channel) for channel in channels.values}

    def save(self, name: str, channels: Mapping[str, float]) -> str:
        """Save channels and return their name. A preset's name gets a number, so that the preset stays."""
        name = name.strip() or "mine"
        name = f"{name} 2" if name in (*PRESETS, UNNAMED) else name
        self._saved[name] = dict(channels)
        self._write()
        return name

    def delete(self, name: str) -> None:
        """Delete a saved expression."""
        del self._saved[name]
        self._write()

    def _write(self) -> None:
        if self._path is not None:
            write_text(self._path, json.dumps(self._saved, indent=2) + "\n")
