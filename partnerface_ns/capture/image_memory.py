"""Memory that the training images take: uint8 colours and mask of every image are held during training."""

from __future__ import annotations

import math

from partnerface_ns.capture.capture import Capture
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.memory import available_bytes

_BYTES_PER_PIXEL = 4
"""Three colours and the mask."""
_SHARE = 0.75
"""Share of the available memory that images may take. Training itself needs the rest."""


def require_memory(capture: Capture, downscale_factor: float = 1.0, num_processes: int = 1) -> None:
    """Check that the training images fit into memory, before anything is read.

    Args:
        capture: the training capture.
        downscale_factor: factor by which images are reduced.
        num_processes: processes on this machine; each holds all images.

    Raises:
        InputError: they do not fit. Names a factor with which they would.
    """
    cameras = [frame.camera for frame in capture.frames_of("train")]
    needed = num_processes * _BYTES_PER_PIXEL * sum(c.width * c.height for c in cameras) / downscale_factor**2
    free = _SHARE * available_bytes()
    if needed <= free:
        return
    factor = math.ceil(downscale_factor * math.sqrt(needed / max(free, 1.0)) * 2) / 2
    smaller = needed * (downscale_factor / factor) ** 2
    widest = max(cameras, key=lambda camera: camera.width * camera.height)
    raise InputError(
        capture.root,
        "the training images do not fit into memory",
        expected=f"at most {_gib(free)}, which is {_SHARE:.0%} of the available memory",
        actual=f"{_gib(needed)} for {len(cameras)} images of {widest.width} x {widest.height}"
        + (f", once for each of {num_processes} processes" if num_processes > 1 else ""),
        hint=f"`flame-data --downscale-factor {factor:g}` (last on the command line) needs {_gib(smaller)}",
    )


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
