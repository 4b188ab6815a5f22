"""The engine head as one HTML file that needs no server: the GLB file, three.js and the page's own script inside."""

from __future__ import annotations

import base64
from pathlib import Path

_ASSETS = Path(__file__).parent / "page"
_SCRIPTS = ("three.min.js", "recording.js", "viewer.js")
"""Scripts of the page, in order of their dependence."""


def build_page(glb: bytes) -> str:
    """The page of a head.

    Args:
        glb: the content of its GLB file.
    """
    page = (_ASSETS / "page.html").read_text(encoding="utf8")
    for name in _SCRIPTS:
        script = (_ASSETS / name).read_text(encoding="utf8")
        page = page.replace(f"@{name}@", script.replace("</script", "<\\/script"))
    return page.replace("@head.glb@", base64.b64encode(glb).decode())
