"""How nerfstudio's `eval_setup` opens our runs. ns-eval, ns-render, ns-viewer and ns-export call it.

`eval_setup` reads config.yml with a YAML loader that runs code, takes the run's folder from it, and loads the newest
checkpoint. For our runs, `config_file.py` reads the file, the run is the folder of the file, and damaged checkpoints
are skipped.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from partnerface_ns.plugin.checkpoints import Checkpoint
    from partnerface_ns.plugin.trainer import PartnerfaceTrainerConfig

_TAG = "tag:yaml.org,2002:python/object:partnerface_ns.plugin.trainer.PartnerfaceTrainerConfig"
_MODULE = "nerfstudio.utils.eval_utils"


def open_own_runs() -> None:
    """Let nerfstudio's YAML loader read this method's configurations with `config_file.py`, and open their runs."""
    yaml.Loader.add_constructor(_TAG, _construct)


def _construct(loader: yaml.Loader, node: yaml.Node) -> object:
    from partnerface_ns.plugin.config_file import config_from_node

    frame = _find_eval_setup()
    if frame is None:
        return config_from_node(node, Path("config.yml"))
    path = Path(frame.f_locals["config_path"])
    config = config_from_node(node, path)
    _load_in_eval_setup(sys.modules[_MODULE], config, config.open_run(path.parent))
    return config


def _find_eval_setup() -> FrameType | None:
    """The running call of `eval_setup`. Only its arguments hold the path of the config.yml that is read."""
    module = sys.modules.get(_MODULE)
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if module is not None and frame.f_code is module.eval_setup.__code__:
            return frame
        frame = frame.f_back
    return None


def _load_in_eval_setup(module: Any, opened: PartnerfaceTrainerConfig, checkpoint: Checkpoint) -> None:
    """Let `eval_setup` use weights that were read already, because nerfstudio loads only files named as checkpoints.

    Args:
        module: nerfstudio's `eval_utils`.
        opened: the configuration of the run.
        checkpoint: its weights.
    """
    original = getattr(module.eval_load_checkpoint, "original", module.eval_load_checkpoint)

    def load(config: Any, pipeline: Any) -> tuple[Path, int]:
        module.eval_load_checkpoint = original
        if config is not opened:
            return original(config, pipeline)
        pipeline.load_pipeline(checkpoint.content["pipeline"], checkpoint.step)
        print(f"Loaded {checkpoint.path}")
        return checkpoint.path, checkpoint.load_step

    load.original = original
    module.eval_load_checkpoint = load
