"""What the plugin changes in the process that runs a nerfstudio command."""

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
import yaml

from partnerface_ns.common.errors import InputError


def allow_numpy_scalars() -> None:
    """Let `torch.load(weights_only=True)`, which nerfstudio uses without saying so, read numpy's float scalars."""
    make_scalar = np.float64(0).__reduce__()[0]  # its module's name differs between numpy 1 and 2
    allowed = [make_scalar, np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32))]
    torch.serialization.add_safe_globals(allowed)


def print_input_errors_alone() -> None:
    """End a command on an uncaught `InputError` with its message alone; all else goes to the hook before.

    Python exits with code 1 after the hook, whichever ns-* command was running.
    """
    previous = sys.excepthook
    if getattr(previous, "prints_subject_errors", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, InputError):
            print(f"\nError: {error}", file=sys.stderr)
        else:
            previous(kind, error, trace)

    hook.prints_subject_errors = True
    sys.excepthook = hook


def read_own_configs() -> None:
    """Let nerfstudio's YAML loader leave this method's configurations to `config_file`."""
    tag = "tag:yaml.org,2002:python/object:partnerface_ns.plugin.trainer.PartnerfaceTrainerConfig"

    def construct(loader: yaml.Loader, node: yaml.Node) -> object:
        from partnerface_ns.plugin.config_file import config_of_node

        path = _config_of_eval_setup()
        if path is None:
            return config_of_node(node, Path("config.yml"))
        config = config_of_node(node, path)
        config.open_run(path.parent)
        return config

    yaml.Loader.add_constructor(tag, construct)


def _config_of_eval_setup() -> Path | None:
    """The config.yml that `eval_setup` is reading, by which ns-eval, ns-render, ns-viewer and ns-export open a run.

    It tells a configuration nothing of the file; the run would be looked for where it was trained.
    """
    utils = sys.modules.get("nerfstudio.utils.eval_utils")
    frame = sys._getframe()
    while frame is not None:
        if utils is not None and frame.f_code is utils.eval_setup.__code__:
            return Path(frame.f_locals["config_path"])
        frame = frame.f_back
    return None


def nerfstudio_command(arguments: Sequence[str]) -> tuple[str, str]:
    """Program and subcommand of a process's arguments, as `ns-export`, `tsdf`; empty where there is none."""
    program = Path(arguments[0]).stem if arguments else ""
    return program, next((word for word in arguments[1:] if not word.startswith("-")), "")


def ignore_framework_warnings() -> None:
    """Hide what newer versions of torch say to nerfstudio 1.1.5 for every image; a user can do nothing about it."""
    for message in ("Using a non-tuple sequence for multidimensional", "Converting a tensor with requires_grad=True"):
        warnings.filterwarnings("ignore", message=message, category=UserWarning, module=r"nerfstudio\.")
    for module in (r"nerfstudio\.", r"torch\.jit"):
        warnings.filterwarnings("ignore", category=FutureWarning, module=module)


def provide_ffmpeg() -> None:
    """Put imageio-ffmpeg's binary on PATH under the name `ffmpeg`, for this process, where there is none.

    ns-render asks PATH for it even when it writes images only. Without imageio-ffmpeg nothing changes and ns-render
    says itself what is missing.
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
