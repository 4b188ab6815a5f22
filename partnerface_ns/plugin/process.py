"""Changes to the process that runs a nerfstudio command."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import torch

from partnerface_ns.common.errors import InputError


def allow_numpy_scalars() -> None:
    """Let `torch.load` read numpy float scalars under `weights_only=True`, which is the default of new versions."""
    make_scalar = np.float64(0).__reduce__()[0]  # its module's name differs between numpy 1 and 2
    allowed = [make_scalar, np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32))]
    torch.serialization.add_safe_globals(allowed)


def print_input_errors_alone() -> None:
    """Print an uncaught `InputError` without a traceback. Other errors go to the previous hook.

    Python exits with code 1 after the hook.
    """
    previous = sys.excepthook
    if getattr(previous, "prints_input_errors", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, InputError):
            print(f"\nError: {error}", file=sys.stderr)
        else:
            previous(kind, error, trace)

    hook.prints_input_errors = True
    sys.excepthook = hook


def parse_command(arguments: Sequence[str]) -> tuple[str, str]:
    """Program and subcommand of a process's arguments, such as `ns-export` and `tsdf`; empty if there is none."""
    program = Path(arguments[0]).stem if arguments else ""
    return program, next((word for word in arguments[1:] if not word.startswith("-")), "")


def ignore_framework_warnings() -> None:
    """Hide warnings of torch about nerfstudio 1.1.5. Some come with every image, and a user cannot fix them."""
    for message in ("Using a non-tuple sequence for multidimensional", "Converting a tensor with requires_grad=True"):
        warnings.filterwarnings("ignore", message=message, category=UserWarning, module=r"nerfstudio\.")
    for module in (r"nerfstudio\.", r"torch\.jit"):
        warnings.filterwarnings("ignore", category=FutureWarning, module=module)


def provide_ffmpeg() -> None:
    """Put imageio-ffmpeg's binary on PATH as `ffmpeg` for this process, if PATH has none.

    ns-render needs it on PATH even when it writes images only. Without imageio-ffmpeg nothing changes, and ns-render
    prints what is missing.
    """
    if shutil.which("ffmpeg") is not None:
        return
    try:
        import imageio_ffmpeg

        binary = Path(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return
    folder = Path(tempfile.mkdtemp(prefix="partnerface-ffmpeg-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / f"ffmpeg{binary.suffix if os.name == 'nt' else ''}").symlink_to(binary)
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), str(folder)])
