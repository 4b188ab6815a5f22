"""Names that users type. The module imports nothing heavy, so that a command's help appears at once."""

from __future__ import annotations

from typing import Literal

CaptureFormat = Literal[
    "vhap", "vhap-tracker", "insta", "metrical-tracker", "flashavatar", "imavatar", "flame-head-tracker"
]
"""Layouts that can be read."""
WrittenFormat = Literal["vhap", "insta", "imavatar"]
"""Layouts that can be written."""
SplitName = Literal["last", "interleaved", "published"]
"""Splits by time that can replace a capture's own; see `splits.py`."""
CAPTURES_OWN_SPLIT = "own"
"""Name, in results, of the split that a capture has."""
FixName = Literal["camera-axes", "camera-inverse", "scale-down", "scale-up"]
"""Mistakes of convention that can be corrected; see `convention_fixes.py`."""
