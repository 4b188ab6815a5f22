"""Reading a capture, whatever layout it has."""

from __future__ import annotations

from pathlib import Path

from partnerface_ns.capture.capture import Capture
from partnerface_ns.capture.vhap import read_vhap
from partnerface_ns.errors import SubjectError


def load_capture(path: Path) -> Capture:
    """Read and check a capture folder.

    Raises:
        SubjectError: no such folder, an unknown layout, or something in it cannot be used.
    """
    root = Path(path)
    if not root.is_dir():
        raise SubjectError(root, "the subject's folder does not exist", expected="a folder", found=_kind(root))
    return read_vhap(root.resolve())


def _kind(path: Path) -> str:
    return "a file" if path.exists() else "nothing"
