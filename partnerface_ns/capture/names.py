"""Names that users type: light to import, so that a command's help appears at once."""

from __future__ import annotations

from typing import Literal

CaptureFormat = Literal[
    "vhap", "vhap-tracker", "insta", "metrical-tracker", "flashavatar", "imavatar", "flame-head-tracker"
]
"""Layouts that are read."""
WrittenFormat = Literal["vhap", "insta", "imavatar"]
"""Layouts that are written."""
FixName = Literal["camera-axes", "camera-inverse", "scale-down", "scale-up"]
"""Mistakes of convention that can be undone: see `fixes.py`."""
